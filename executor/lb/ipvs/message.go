package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Commands and attributes of the generic netlink family IPVS (linux/ip_vs.h).
const (
	cmdNewService, cmdSetService, cmdDelService, cmdGetService = 1, 2, 3, 4
	cmdNewDest, cmdSetDest, cmdDelDest, cmdGetDest             = 5, 6, 7, 8
	cmdFlush                                                   = 17

	attrService, attrDest = 1, 2

	svcFamily, svcProtocol, svcAddress, svcPort, svcMark     = 1, 2, 3, 4, 5
	svcScheduler, svcFlags, svcTimeout, svcNetmask           = 6, 7, 8, 9
	destAddress, destPort, destMethod, destWeight, destUpper = 1, 2, 3, 4, 5
	destLower, destFamily                                    = 6, 11

	directRouting = 3 // IP_VS_CONN_F_DROUTE
	methods       = 7 // IP_VS_CONN_F_FWD_MASK
)

// payload is a command with its header (struct genlmsghdr).
func payload(command uint8, encode func(*netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	if encode != nil {
		encode(ae)
	}
	b, err := ae.Encode()
	return append([]byte{command, 1, 0, 0}, b...), err
}

// encode is the message that does an op.
func (o op) encode() ([]byte, error) {
	command := map[verb]uint8{addService: cmdNewService, editService: cmdSetService, deleteService: cmdDelService,
		addDest: cmdNewDest, editDest: cmdSetDest, deleteDest: cmdDelDest}[o.verb]
	return payload(command, func(ae *netlink.AttributeEncoder) {
		ae.Nested(attrService, func(n *netlink.AttributeEncoder) error {
			o.service.key.encode(n)
			if o.verb == addService || o.verb == editService {
				n.String(svcScheduler, o.service.scheduler)
				// The flags, and a mask of those that are meant.
				n.Bytes(svcFlags, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, o.service.flags), ^uint32(0)))
				n.Uint32(svcTimeout, 0)
				n.Uint32(svcNetmask, o.service.netmask())
			}
			return nil
		})
		if o.verb < addDest {
			return
		}
		ae.Nested(attrDest, func(n *netlink.AttributeEncoder) error {
			n.Bytes(destAddress, address(o.dest.at.Addr()))
			n.Bytes(destPort, binary.BigEndian.AppendUint16(nil, o.dest.at.Port()))
			n.Uint16(destFamily, uint16(o.service.family))
			if o.verb != deleteDest {
				n.Uint32(destMethod, directRouting)
				n.Uint32(destWeight, o.dest.weight)
				n.Uint32(destUpper, o.dest.most)
				n.Uint32(destLower, 0)
			}
			return nil
		})
	})
}

func (k key) encode(n *netlink.AttributeEncoder) {
	n.Uint16(svcFamily, uint16(k.family))
	if k.mark != 0 {
		n.Uint32(svcMark, k.mark)
		return
	}
	n.Uint16(svcProtocol, uint16(k.protocol))
	n.Bytes(svcAddress, address(k.at.Addr()))
	n.Bytes(svcPort, binary.BigEndian.AppendUint16(nil, k.at.Port()))
}

// netmask groups the clients of services with persistence, which ours have not: each alone.
func (k key) netmask() uint32 {
	if k.family == unix.AF_INET6 {
		return 128
	}
	return ^uint32(0)
}

// address is a union nf_inet_addr.
func address(a netip.Addr) []byte {
	b := make([]byte, 16)
	copy(b, a.AsSlice())
	return b
}

// decodeService reads an entry of the list of services.
func decodeService(b []byte) (service, error) {
	var s service
	var at []byte
	var port uint16
	err := inside(b, attrService, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case svcFamily:
			s.family = uint8(ad.Uint16())
		case svcProtocol:
			s.protocol = uint8(ad.Uint16())
		case svcAddress:
			at = ad.Bytes()
		case svcPort:
			port = bigEndian(ad)
		case svcMark:
			s.mark = ad.Uint32()
		case svcScheduler:
			s.scheduler = ad.String()
		case svcFlags:
			if b := ad.Bytes(); len(b) >= 4 {
				s.flags = binary.NativeEndian.Uint32(b) & ownFlags
			}
		}
	})
	if err != nil {
		return s, err
	}
	if s.mark != 0 {
		s.key = key{mark: s.mark, family: s.family}
		return s, nil
	}
	a, err := addressOf(at, s.family)
	s.at = netip.AddrPortFrom(a, port)
	return s, err
}

// decodeDest reads an entry of the list of a service's real servers.
func decodeDest(b []byte, family uint8) (dest, error) {
	var d dest
	var at []byte
	var port uint16
	method := uint32(0)
	err := inside(b, attrDest, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case destAddress:
			at = ad.Bytes()
		case destPort:
			port = bigEndian(ad)
		case destMethod:
			method = ad.Uint32() & methods
		case destWeight:
			d.weight = ad.Uint32()
		case destUpper:
			d.most = ad.Uint32()
		}
	})
	if err != nil {
		return d, err
	}
	if method != directRouting {
		return d, fmt.Errorf("a real server with forwarding method %d, which this director did not add", method)
	}
	a, err := addressOf(at, family)
	d.at = netip.AddrPortFrom(a, port)
	return d, err
}

func inside(b []byte, attr uint16, each func(*netlink.AttributeDecoder)) error {
	if len(b) < 4 {
		return fmt.Errorf("a message of IPVS of %d bytes: at least 4 are needed", len(b))
	}
	ad, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return err
	}
	for ad.Next() {
		if ad.Type() != attr {
			continue
		}
		ad.Nested(func(n *netlink.AttributeDecoder) error {
			for n.Next() {
				each(n)
			}
			return n.Err()
		})
	}
	return ad.Err()
}

func bigEndian(ad *netlink.AttributeDecoder) uint16 {
	if b := ad.Bytes(); len(b) == 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func addressOf(b []byte, family uint8) (netip.Addr, error) {
	n := 4
	if family == unix.AF_INET6 {
		n = 16
	}
	if len(b) < n {
		return netip.Addr{}, fmt.Errorf("an address of IPVS of %d bytes: at least %d are needed", len(b), n)
	}
	a, _ := netip.AddrFromSlice(b[:n])
	return a, nil
}
