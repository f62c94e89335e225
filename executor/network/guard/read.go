package guard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The library reads whole sets only, and loses the number of the kernel's error. These two requests are all we need.

// dump reads the sets of a table; none if the table is not there.
func (g *Guard) dump(at place) ([]element, error) {
	l := g.layouts[at]
	var all []element
	for _, set := range l.order {
		some, err := g.dumpSet(at, set)
		if err != nil {
			return nil, fmt.Errorf("read set %s of table %s: %w", set, l.table.Name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (g *Guard) dumpSet(at place, set string) ([]element, error) {
	for {
		replies, err := g.get(at, set, netlink.Dump, nil)
		if errors.Is(err, unix.ENOENT) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var all []element
		torn := false
		for _, m := range replies {
			torn = torn || m.Header.Flags&netlink.DumpInterrupted != 0
			some, err := decode(m.Data)
			if err != nil {
				return nil, err
			}
			for _, e := range some {
				e.place, e.set = at, set
				all = append(all, e)
			}
		}
		if !torn {
			return all, nil
		}
	}
}

// has tells whether an element is there.
func (g *Guard) has(e element) (bool, error) {
	_, err := g.get(e.place, e.set, 0, []byte(e.key))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

func (g *Guard) get(at place, set string, flags netlink.HeaderFlags, key []byte) ([]netlink.Message, error) {
	table := g.layouts[at].table
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	ae.String(unix.NFTA_SET_ELEM_LIST_TABLE, table.Name)
	ae.String(unix.NFTA_SET_ELEM_LIST_SET, set)
	if key != nil {
		ae.Nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func(ae *netlink.AttributeEncoder) error {
			ae.Nested(unix.NFTA_LIST_ELEM, func(ae *netlink.AttributeEncoder) error {
				ae.Nested(unix.NFTA_SET_ELEM_KEY, func(ae *netlink.AttributeEncoder) error {
					ae.Bytes(unix.NFTA_DATA_VALUE, key)
					return nil
				})
				return nil
			})
			return nil
		})
	}
	data, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	return g.reader.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM, Flags: netlink.Request | flags},
		Data:   append(header(table.Family), data...),
	})
}

// header is struct nfgenmsg.
func header(family nftables.TableFamily) []byte { return []byte{byte(family), unix.NFNETLINK_V0, 0, 0} }

var errShort = errors.New("a message of nf_tables is shorter than its header")

// decode reads keys and comments of a message with elements.
func decode(data []byte) ([]element, error) {
	if len(data) < 4 {
		return nil, errShort
	}
	ad, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return nil, err
	}
	var all []element
	for ad.Next() {
		if ad.Type() == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					var e element
					ad.Nested(e.decode)
					all = append(all, e)
				}
				return nil
			})
		}
	}
	return all, ad.Err()
}

func (e *element) decode(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					if ad.Type() == unix.NFTA_DATA_VALUE {
						e.key = string(ad.Bytes())
					}
				}
				return nil
			})
		case unix.NFTA_SET_ELEM_USERDATA:
			e.note = comment(ad.Bytes())
		}
	}
	return nil
}

// comment reads the comment of an element: type, length, text with its zero byte, one after the other.
func comment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if text := b[2 : 2+int(b[1])]; b[0] == byte(userdata.NFTNL_UDATA_SET_ELEM_COMMENT) && len(text) > 0 {
			return string(text[:len(text)-1])
		}
		b = b[2+int(b[1]):]
	}
	return ""
}
