package deliver

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// sink is a receiver that costs as little as it can: it looks for the end of a request and answers 204.
func sink(b *testing.B) (url string) {
	b.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go drain(c)
		}
	}()
	return "http://" + l.Addr().String() + "/hook"
}

func drain(c net.Conn) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReaderSize(c, 16<<10)
	length := []byte("Content-Length: ")
	for {
		n := 0
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if text, ok := bytes.CutPrefix(line, length); ok {
				n, _ = strconv.Atoi(string(bytes.TrimSpace(text)))
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := r.Discard(n); err != nil {
			return
		}
		if _, err := c.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n")); err != nil {
			return
		}
	}
}

// BenchmarkPost is one signed request to a local receiver and its answer, without the outbox.
func BenchmarkPost(b *testing.B) {
	s := sender(b, newMemory(), nil)
	ep := endpoint(1, sink(b))
	ep.Signatures = nil
	tg := s.target(&ep)
	m := message{id: "evt_1", contentType: "application/json", body: []byte(firedBody)}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if r := tg.post(b.Context(), &m); !r.OK() {
				b.Error(r.Err)
			}
		}
	})
}

// BenchmarkDeliver goes from a durable outbox to a local receiver and back: read, sent, answered, committed. deliveries/s is
// the figure.
func BenchmarkDeliver(b *testing.B) {
	for _, endpoints := range []int{1, 10, 100} {
		b.Run(strconv.Itoa(endpoints), func(b *testing.B) {
			st := openStore(b, b.TempDir())
			defer func() { _ = st.Close() }()
			url := sink(b)
			urls := make([]string, endpoints)
			for i := range urls {
				urls[i] = url
			}
			tenant, _ := fill(b, st, (b.N+endpoints-1)/endpoints, func(_ int, ep *store.Endpoint) { ep.MaxInFlight = 50 }, urls...)
			s := sender(b, st, nil)
			b.ReportAllocs()
			b.ResetTimer()
			begin := time.Now()
			stop := start(b, s)
			for {
				list, err := st.Deliveries(b.Context(), store.DeliveryFilter{Tenant: tenant, State: store.DeliveryQueued, Page: store.Page{Limit: 1}})
				if err != nil {
					b.Fatal(err)
				}
				if len(list) == 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "deliveries/s")
			b.StopTimer()
			stop()
		})
	}
}
