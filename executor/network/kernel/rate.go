package kernel

import (
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// What of tc the system package does not name (linux/pkt_sched.h).
const (
	rootQueue    = 0xffffffff // TC_H_ROOT
	handle       = 0x80500000 // 8050:
	linkEthernet = 1          // TC_LINKLAYER_ETHERNET
	bucketParams = 1          // TCA_TBF_PARMS
	bucketRate   = 4          // TCA_TBF_RATE64
	bucketBurst  = 6          // TCA_TBF_BURST
	paramsLength = 36         // struct tc_tbf_qopt
)

// queueHeader is a struct tcmsg for the root of a link.
func queueHeader(link int, handle uint32) []byte {
	b := make([]byte, 20)
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	binary.NativeEndian.PutUint32(b[8:], handle)
	binary.NativeEndian.PutUint32(b[12:], rootQueue)
	return b
}

// setRate makes or changes a token bucket (tc-tbf(8)); packets that wait in it stay. What would wait longer than 50 ms
// behind a full bucket is dropped.
func setRate(link int, bits int64) *request {
	if bits == 0 {
		r := newRequest(unix.RTM_DELQDISC, 0, queueHeader(link, 0))
		r.ignore = []unix.Errno{unix.ENOENT, unix.EINVAL}
		return r
	}
	rate := uint64(bits) / 8
	burst := uint32(min(network.Burst(bits), math.MaxInt32))
	limit := uint32(min(rate/20+uint64(burst), math.MaxInt32))
	params := make([]byte, paramsLength)
	params[1] = linkEthernet
	binary.NativeEndian.PutUint32(params[8:], uint32(min(rate, math.MaxUint32)))
	binary.NativeEndian.PutUint32(params[24:], limit)
	r := newRequest(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, queueHeader(link, handle)).text(unix.TCA_KIND, "tbf")
	return r.nest(unix.TCA_OPTIONS, func() {
		r.attr(bucketParams, params).u32(bucketBurst, burst)
		if rate > math.MaxUint32 {
			r.u64(bucketRate, rate)
		}
	})
}

// rate is what the link's token bucket lets through, in bits per second; 0 if it has none.
func (c *conn) rate(l link) (int64, error) {
	if l.queue != "tbf" {
		return 0, nil
	}
	var out uint64
	// The answer is sent to those who listen; an echo is what the one gets who asked.
	r := newRequest(unix.RTM_GETQDISC, unix.NLM_F_ECHO, queueHeader(l.index, 0))
	r.ignore = []unix.Errno{unix.ENOENT, unix.EINVAL, unix.ENODEV}
	r.reply = func(body []byte) { out = parseRate(body) }
	if err := c.do(r); err != nil {
		return 0, fmt.Errorf("look at the rate of %s: %w", l.Name, err)
	}
	return int64(out) * 8, nil
}

// parseRate reads the bytes per second of a message about a queueing discipline.
func parseRate(body []byte) uint64 {
	if len(body) < 20 {
		return 0
	}
	var rate uint64
	for kind, v := range attributes(body[20:]) {
		if kind != unix.TCA_OPTIONS {
			continue
		}
		for kind, v := range attributes(v) {
			switch {
			case kind == bucketParams && len(v) >= paramsLength && rate == 0:
				rate = uint64(number32(v[8:]))
			case kind == bucketRate:
				rate = number64(v)
			}
		}
	}
	return rate
}
