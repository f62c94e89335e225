package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// own makes a table that belongs to a socket: nobody else may change it, and the kernel removes it when the socket closes, however
// that comes. The library cannot say so.
func own(table string) func(*netlink.Conn) error {
	return func(c *netlink.Conn) error {
		attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(table), 0)},
			{Type: unix.NFTA_TABLE_FLAGS, Data: binary.BigEndian.AppendUint32(nil, ownedBySocket)},
		})
		if err != nil {
			return err
		}
		message := func(kind uint16, flags netlink.HeaderFlags, family byte, resource uint16, data []byte) netlink.Message {
			head := binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
			return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags}, Data: append(head, data...)}
		}
		_, err = c.SendMessages([]netlink.Message{
			message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
			message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, netlink.Acknowledge|netlink.Create|netlink.Excl, unix.NFPROTO_NETDEV, 0, attributes),
			message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
		})
		if err == nil {
			_, err = c.Receive()
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		return nil
	}
}
