package server_test

import (
	"os"
	"testing"

	"padis.io/padis/api/server"
)

// The file of the API is told while there is one that is mapped, and never after.
func TestDatabase(t *testing.T) {
	s, err := server.New(server.Config{DataDir: t.TempDir(), ListenAddress: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	look := func(file string) error {
		told++
		_, err := os.Stat(file)
		return err
	}
	if err := s.Database(look); err != nil || told != 1 {
		t.Errorf("told %d times: %v", told, err)
	}
	s.Close()
	if err := s.Database(look); err != nil || told != 1 {
		t.Errorf("told %d times after the end: %v", told, err)
	}
}
