package child

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/reconcile/gitops/render/helm"
)

// tooLarge is what a child says whose answer would be too large.
const tooLarge = "the answer is too large"

const (
	// deepest is how deep calls may nest, in bytes. Templates nest as deep as data do.
	deepest = 64 << 20
	// slack is address space that Go's runtime reserves and does not use.
	slack = 512 << 20
)

// Main is the child: args are what the parent gives it after the Verb. It returns the exit status.
func Main(args []string, in io.Reader, out, stderr io.Writer) int {
	if err := work(args, in, out); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

func work(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 4 {
		return errors.New("this is not for people: the control plane renders charts by it")
	}
	var n [4]int64
	for i, a := range args {
		var err error
		if n[i], err = strconv.ParseInt(a, 10, 64); err != nil {
			return err
		}
	}
	cpu, memory, request, response := n[0], n[1], n[2], n[3]
	if err := confine(uint64(cpu), uint64(memory)); err != nil {
		return err
	}
	time.Local = time.UTC
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	req, err := helm.Read[helm.Request](in, request)
	if err != nil {
		return errors.New("the request cannot be read")
	}
	b, err := json.Marshal(helm.Render(req))
	if err != nil {
		return errors.New("the answer cannot be written")
	}
	if int64(len(b)) > response {
		return errors.New(tooLarge)
	}
	_, err = out.Write(b)
	return err
}

// confine bounds what this process may use from here on.
func confine(cpu, memory uint64) error {
	debug.SetMaxStack(deepest)
	debug.SetMemoryLimit(int64(memory / 4 * 3))
	space, data, err := mapped()
	if err != nil {
		return err
	}
	for _, l := range []struct {
		resource int
		limit    unix.Rlimit
	}{
		{unix.RLIMIT_CORE, unix.Rlimit{}},
		{unix.RLIMIT_FSIZE, unix.Rlimit{}},
		{unix.RLIMIT_NOFILE, unix.Rlimit{Cur: 16, Max: 16}},
		{unix.RLIMIT_AS, unix.Rlimit{Cur: space + memory + slack, Max: space + memory + slack}},
		{unix.RLIMIT_DATA, unix.Rlimit{Cur: data + memory, Max: data + memory}},
		// Go's runtime says of the first that it has come; the second kills.
		{unix.RLIMIT_CPU, unix.Rlimit{Cur: cpu, Max: cpu + 1}},
	} {
		if err := unix.Setrlimit(l.resource, &l.limit); err != nil {
			return err
		}
	}
	return nil
}

// mapped is the address space that this process has by now, and how much of it is data, in bytes.
func mapped() (space, data uint64, err error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		into := map[string]*uint64{"VmSize": &space, "VmData": &data}[name]
		if into == nil {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		*into = kib << 10
	}
	if space == 0 || data == 0 {
		return 0, 0, errors.New("/proc/self/status does not tell the memory")
	}
	return space, data, nil
}
