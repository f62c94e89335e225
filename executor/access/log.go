package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"padis.io/padis/proto/padis/stream"
)

func (s *Server) log(w http.ResponseWriter, r *http.Request) {
	name, i, ok := s.find(w, r)
	if !ok {
		return
	}
	request, err := stream.ParseLogRequest(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, "", err.Error())
		return
	}
	output, err := s.cfg.Logs.Read(r.Context(), i.Logs, request, i.Ended)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fail(w, http.StatusNotFound, "", fmt.Sprintf("the %s of instance %s is not kept on this host", request.Stream, name))
		return
	case err != nil:
		fail(w, http.StatusInternalServerError, "", fmt.Sprintf("read the %s of instance %s: %v", request.Stream, name, err))
		return
	}
	defer func() { _ = output.Close() }()
	var from io.Reader = output
	if request.LimitBytes >= 0 {
		from = io.LimitReader(output, request.LimitBytes)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	if err := copyFlushing(w, from); err != nil {
		// The status is said already: the stream is cut off, so that nobody takes it for complete.
		panic(http.ErrAbortHandler)
	}
}

// copyFlushing hands each piece on at once, for people who follow.
func copyFlushing(w http.ResponseWriter, from io.Reader) error {
	control := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	if err := control.Flush(); err != nil {
		return err
	}
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if err := control.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
