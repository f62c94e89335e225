package helm

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// funcs takes the place of those functions whose results are another each time. In the two turns of a rendering they give
// different results for certain, and whatever they cost otherwise (keys of RSA, bcrypt) they cost nothing. Time is in UTC. What
// depends only on the order of Go's maps is put in order.
func funcs(turn int) template.FuncMap {
	now := time.Now().UTC()
	if turn > 0 {
		// Every part of a date is another, and all are later.
		now = now.AddDate(1, 1, 1).Add(61*time.Minute + time.Second)
	}
	word := "turn" + strconv.Itoa(turn)
	text := func(alphabets ...string) func(int) string {
		return func(n int) string {
			if n < 0 || n > unpacked {
				return "" // sprig panics
			}
			return strings.Repeat(alphabets[turn%len(alphabets)], n)
		}
	}
	zoned := func(layout string, v any, zone string) string { return in(at(v, now), zone).Format(layout) }
	type pair struct{ Cert, Key string }
	made := func(...any) pair { return pair{word, word} }
	anything := func(...any) string { return word }
	m := template.FuncMap{
		"now": func() time.Time { return now },
		"ago": func(v any) string { return now.Sub(at(v, now)).Round(time.Second).String() },
		"durationRound": func(v any) string {
			if t, ok := v.(time.Time); ok {
				v = now.Sub(t).String()
			}
			return original("durationRound").(func(any) string)(v)
		},
		"date":           func(layout string, v any) string { return at(v, now).UTC().Format(layout) },
		"htmlDate":       func(v any) string { return at(v, now).UTC().Format(time.DateOnly) },
		"dateInZone":     zoned,
		"date_in_zone":   zoned,
		"htmlDateInZone": func(v any, zone string) string { return in(at(v, now), zone).Format(time.DateOnly) },
		"toDate": func(layout, s string) time.Time {
			t, _ := time.ParseInLocation(layout, s, time.UTC) // as sprig: what is no date is the zero time
			return t
		},
		"mustToDate": func(layout, s string) (time.Time, error) { return time.ParseInLocation(layout, s, time.UTC) },

		"randAlphaNum": text("a", "1"), "randAlpha": text("a", "b"), "randAscii": text("a", "1"), "randNumeric": text("1", "2"),
		"randInt": func(low, high int) (int, error) {
			if high <= low {
				return 0, fmt.Errorf("randInt: the second number must be greater than the first")
			}
			return low + turn*(high-1-low), nil
		},
		"randBytes": func(n int) (string, error) {
			if n < 0 || n > unpacked {
				return "", fmt.Errorf("randBytes: cannot give so many bytes")
			}
			return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune('a'+turn)), n))), nil
		},
		"shuffle": func(s string) string {
			r := []rune(s)
			if turn > 0 {
				slices.Reverse(r)
			}
			return string(r)
		},
		"uuidv4": func() string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", turn) },

		"keys": func(dicts ...map[string]any) []string {
			ks := []string{}
			for _, d := range dicts {
				ks = append(ks, slices.Sorted(maps.Keys(d))...)
			}
			return ks
		},
		"values": func(d map[string]any) []any {
			vs := []any{}
			for _, k := range slices.Sorted(maps.Keys(d)) {
				vs = append(vs, d[k])
			}
			return vs
		},
	}
	for _, name := range []string{"bcrypt", "htpasswd", "genPrivateKey", "encryptAES"} {
		m[name] = anything
	}
	for _, name := range []string{"genCA", "genCAWithKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey"} {
		m[name] = made
	}
	return m
}

func original(name string) any { return sprig.TxtFuncMap()[name] }

// at is the time that sprig's functions take a value for.
func at(v any, now time.Time) time.Time {
	switch v := v.(type) {
	case time.Time:
		return v
	case *time.Time:
		return *v
	case int64:
		return time.Unix(v, 0)
	case int:
		return time.Unix(int64(v), 0)
	case int32:
		return time.Unix(int64(v), 0)
	}
	return now
}

func in(t time.Time, zone string) time.Time {
	l := time.UTC
	if zone != "Local" {
		if known, err := time.LoadLocation(zone); err == nil {
			l = known
		}
	}
	return t.In(l)
}
