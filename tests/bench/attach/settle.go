package main

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// settle waits until the kernel has removed what was dropped, so that the next round is not slowed down by the one before.
func settle() error {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		n := 0
		for _, i := range links {
			if strings.HasPrefix(i.Name, "pd") || strings.HasPrefix(i.Name, "veth") {
				n++
			}
		}
		if n == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d interfaces of instances are still there", n)
		}
	}
}
