package fanout

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tickwire/tickwire/pkg/market"
)

// inflate undoes permessage-deflate without context takeover.
func inflate(t testing.TB, b []byte) []byte {
	t.Helper()
	plain, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	if err != nil {
		t.Fatalf("inflate %x: %v", b, err)
	}
	return plain
}

// TestDeflate sends the same messages to many: each is compressed once, short ones and control frames are not, and those who
// have not asked for it get them as they are.
func TestDeflate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{Shards: 2})
		defer h.Close()
		topic := h.NewTopic(Log, Limits{Entries: 1000, Bytes: 1 << 20}, nil)
		const clients, messages = 20, 50
		type got struct {
			packed bool
			text   string
		}
		all := make([][]got, clients)
		for i := range clients {
			server, client := net.Pipe()
			conn, err := h.Attach(NewWriter(server), newRecorder())
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				conn.Deflate()
			}
			start(conn, topic, Start{Position: 1})
			conn.SendPing(NewFrame(Ping, bytes.Repeat([]byte("p"), 125)))
			go func() {
				in := bufio.NewReader(client)
				for {
					first, err := in.Peek(1)
					if err != nil {
						return
					}
					packed := first[0]&rsv1 != 0
					m, err := read(in)
					if err != nil {
						return
					}
					if m.op == byte(Ping) {
						if packed {
							t.Error("a compressed ping")
						}
						continue
					}
					if packed {
						m.payload = inflate(t, m.payload)
					}
					all[i] = append(all[i], got{packed, string(m.payload)})
				}
			}()
		}
		text := func(n int) string {
			return fmt.Sprintf(`{"n":%d,"x":"%s"}`, n, strings.Repeat("abc", n*3))
		}
		plain := 0
		for n := range messages {
			topic.Publish(NewEntry(market.Sequence{Epoch: 1, Seq: uint64(n + 1)}, uint64(n), Text, []byte(text(n))))
			plain += len(text(n)) + entryOverhead + 2
			synctest.Wait()
		}
		compressible := 0
		for n := range messages {
			if len(text(n)) >= minDeflate {
				compressible++
			}
		}
		for i := range all {
			if len(all[i]) != messages {
				t.Fatalf("client %d got %d messages", i, len(all[i]))
			}
			for n, m := range all[i] {
				if m.text != text(n) || m.packed != (i%2 == 0 && len(m.text) >= minDeflate) {
					t.Errorf("client %d, message %d: %+v", i, n, m)
				}
			}
		}
		if n := h.Stats().Deflated.Load(); n != uint64(compressible) {
			t.Errorf("%d messages compressed for %d clients, want %d", n, clients/2, compressible)
		}
		if topic.bytes <= plain+compressible*10 {
			t.Errorf("the ring counts %d bytes, %d of them plain", topic.bytes, plain)
		}
	})
}

// TestDeflateWindow counts what a client handles, which is uncompressed.
func TestDeflateWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := started(Config{})
		defer h.Close()
		server, client := net.Pipe()
		conn, _ := attach(t, h, server)
		conn.Deflate()
		conn.SetWindow(4096, NewFrame(Text, []byte("ok")))
		go func() { _, _ = io.Copy(io.Discard, client) }()
		synctest.Wait()
		conn.Send(NewFrame(Text, make([]byte, 1000)))
		synctest.Wait()
		if n := conn.flow.Load().sent.Load(); n != 1000 {
			t.Errorf("%d bytes count as sent, want 1000", n)
		}
		conn.Abort()
	})
}

// TestDeflateRandom leaves what can't be compressed as it is.
func TestDeflateRandom(t *testing.T) {
	var z deflater
	b := make([]byte, 0, 4096)
	for x := uint64(1); len(b) < 4096; x *= 6364136223846793005 {
		b = binary.BigEndian.AppendUint64(b, x^x>>29)
		x++
	}
	f := NewFrame(Binary, b)
	if d, _ := f.deflated(&z); d != f {
		t.Errorf("%d bytes became %d", len(f.data), len(d.data))
	}
	if d, _ := f.deflated(&z); d != f {
		t.Error("another answer the second time")
	}
}

func FuzzDeflate(f *testing.F) {
	f.Add([]byte(strings.Repeat("tickwire", 40)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var z deflater
		for range 2 { // a compressor that has been used, too
			if got := inflate(t, z.compress(b)); !bytes.Equal(got, b) {
				t.Fatalf("%q became %q", b, got)
			}
		}
	})
}
