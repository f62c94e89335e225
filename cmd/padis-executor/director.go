package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"padis.io/padis/executor/director"
	"padis.io/padis/executor/director/plane"
	"padis.io/padis/executor/director/wire"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/ipvs"
	"padis.io/padis/executor/lb/nft"
	"padis.io/padis/executor/network/kernel"
)

// directorDevice is the interface of a director: the first of its instance.
const directorDevice = "eth0"

// direct is the verb wire.Verb: one director of a LoadBalancer, as the program of an instance. It reads orders from the unix
// socket director.sock in its working directory, has the addresses in PADIS_ADDRESSES (separated by commas) on eth0, and serves
// /ready and /metrics on port 9466. The first SIGTERM has it leave without a lost packet, a second one at once.
func direct() int {
	debug.SetGCPercent(50)
	log, err := zap.NewProduction(zap.WithCaller(false))
	if err != nil {
		return exitFailed
	}
	own, err := directorAddresses(os.Getenv("PADIS_ADDRESSES"))
	if err != nil {
		log.Error("the director cannot start", zap.Error(err))
		return exitUsage
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	err = director.Run(context.Background(), stop, director.Options{
		Instance: os.Getenv("PADIS_NAMESPACE") + "/" + os.Getenv("PADIS_INSTANCE"), Own: own, Device: directorDevice,
		Socket: wire.Socket, Listen: fmt.Sprint(":", wire.Port), Log: log,
		Dataplanes: map[string]func() (lb.Dataplane, error){
			"tcx":  func() (lb.Dataplane, error) { return plane.TCX(directorDevice) },
			"xdp":  func() (lb.Dataplane, error) { return plane.XDP(directorDevice) },
			"ipvs": openIPVS,
			"nft":  openNFT,
		},
		Auto: []string{"tcx", "ipvs", "nft"},
	})
	if err != nil {
		log.Error("the director ends", zap.Error(err))
		return exitFailed
	}
	return 0
}

func openIPVS() (lb.Dataplane, error) {
	locals, err := kernel.OpenLocals(directorDevice)
	if err != nil {
		return nil, err
	}
	d, err := ipvs.New(ipvs.Options{Interface: directorDevice, Locals: locals})
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	return d, nil
}

func openNFT() (lb.Dataplane, error) {
	d, err := nft.New(nft.Options{Interface: directorDevice})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func directorAddresses(list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range strings.Split(list, ",") {
		if s == "" {
			continue
		}
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("PADIS_ADDRESSES: %q is no address: separate addresses by commas", s)
		}
		out = append(out, a.Unmap())
	}
	return out, nil
}
