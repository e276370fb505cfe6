package main

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

func init() { go probe() }

func probe() {
	link, err := net.Dial("tcp", os.Getenv("PROBE_AT"))
	if err != nil {
		fmt.Println("probe:", err)
		return
	}
	fmt.Fprintf(link, "who %s\n", os.Getenv("FLY_MACHINE_ID"))
	var heard int64
	go func() {
		bytes := make([]byte, 1000)
		for {
			n, err := link.Read(bytes)
			if err != nil {
				return
			}
			atomic.AddInt64(&heard, int64(n))
		}
	}()
	begun := time.Now()
	ticks := 0
	for range time.NewTicker(100 * time.Millisecond).C {
		ticks++
		now := time.Now()
		fmt.Fprintf(link, "%d %d %d %d\n", ticks, now.UnixMilli(), now.Sub(begun).Milliseconds(), atomic.LoadInt64(&heard))
	}
}
