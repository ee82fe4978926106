// Command go-sse follows streams with github.com/tmaxmax/go-sse, which connects again by itself. It prints what it gets, a
// line of JSON for each event, until stdin ends.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tmaxmax/go-sse"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	var out sync.Mutex
	for stream, url := range os.Args[1:] {
		following.Go(func() {
			err := follow(ctx, url, func(e sse.Event) {
				out.Lock()
				defer out.Unlock()
				_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"s": stream, "ev": e.Type, "id": e.LastEventID, "data": e.Data})
			})
			if ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "%d: %v\n", stream, err)
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	stop()
	following.Wait()
}

// follow calls f for each event of a stream until ctx ends.
func follow(ctx context.Context, url string, f func(sse.Event)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := sse.Client{Backoff: sse.Backoff{InitialInterval: 3 * time.Second, MaxInterval: 30 * time.Second}}
	conn := client.NewConnection(req)
	conn.Buffer(nil, 1<<20) // its own limit, 64 KiB, is less than a snapshot of many symbols
	conn.SubscribeToAll(f)
	return conn.Connect()
}
