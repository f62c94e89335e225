package wire

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/gogo/protobuf/proto"
)

// Media types of the Mesos v1 APIs.
const (
	JSON     = "application/json"
	Protobuf = "application/x-protobuf"
)

// MaxBody is the size above which a call is refused: 8 MB messages in base64 pass, as in Mesos.
const MaxBody = 64 << 20

// Refusal is an HTTP answer that is not 2xx, with the text Mesos gives.
type Refusal struct {
	Code int
	Text string
}

func (r *Refusal) Error() string { return strconv.Itoa(r.Code) + ": " + r.Text }

// Write sends the refusal.
func (r *Refusal) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.Code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "POST")
	}
	w.WriteHeader(r.Code)
	_, _ = io.WriteString(w, r.Text)
}

// Refuse makes a Refusal.
func Refuse(code int, format string, args ...any) *Refusal {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

// ReadCall reads the body of a POST into message, by Content-Type.
func ReadCall(w http.ResponseWriter, r *http.Request, message proto.Message) *Refusal {
	if r.Method != http.MethodPost {
		return Refuse(http.StatusMethodNotAllowed, "405 Method Not Allowed. Expecting one of { 'POST' }, but received '%s'.", r.Method)
	}
	header := r.Header.Get("Content-Type")
	if header == "" {
		return Refuse(http.StatusBadRequest, "Expecting 'Content-Type' to be present")
	}
	media, _, err := mime.ParseMediaType(header)
	if err != nil || (media != JSON && media != Protobuf) {
		return Refuse(http.StatusUnsupportedMediaType, "Expecting 'Content-Type' of %s or %s", JSON, Protobuf)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		return Refuse(http.StatusBadRequest, "Failed to read the body: %v", err)
	}
	return Decode(media, body, message)
}

// Decode reads a body of a known media type.
func Decode(media string, body []byte, message proto.Message) *Refusal {
	if media == Protobuf {
		if err := proto.Unmarshal(body, message); err != nil {
			return Refuse(http.StatusBadRequest, "Failed to parse body into Call protobuf")
		}
		return nil
	}
	if err := DecodeJSON(body, message, "Call"); err != nil {
		return Refuse(http.StatusBadRequest, "%s", err)
	}
	return nil
}

// Accepted chooses the media type of the answer: JSON where the client allows it, as Mesos does.
func Accepted(r *http.Request) (string, *Refusal) {
	for _, media := range []string{JSON, Protobuf} {
		if accepts(r.Header.Values("Accept"), media) {
			return media, nil
		}
	}
	return "", Refuse(http.StatusNotAcceptable, "Expecting 'Accept' to allow '%s' or '%s'", Protobuf, JSON)
}

func accepts(headers []string, media string) bool {
	if len(headers) == 0 {
		return true
	}
	major, _, _ := strings.Cut(media, "/")
	for _, header := range headers {
		for _, item := range strings.Split(header, ",") {
			kind, params, err := mime.ParseMediaType(strings.TrimSpace(item))
			if err != nil {
				continue
			}
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil && q == 0 {
				continue
			}
			if kind == media || kind == "*/*" || kind == major+"/*" {
				return true
			}
		}
	}
	return false
}

// Encode writes a message in a media type.
func Encode(media string, message proto.Message) ([]byte, error) {
	if media == Protobuf {
		return proto.Marshal(message)
	}
	return EncodeJSON(message), nil
}

// Reply answers 200 with a message.
func Reply(w http.ResponseWriter, media string, message proto.Message) {
	b, err := Encode(media, message)
	if err != nil {
		Refuse(http.StatusInternalServerError, "encode: %v", err).Write(w)
		return
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(b)
}
