package swarm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tickwire/tickwire/pkg/wire"
)

// maxRefusal is how much of a refusal is waited for.
const maxRefusal = 8 << 10

// refusal reads an answer of HTTP that is not the one that was hoped for; nil when the rest of its body is worth waiting for.
func refusal(b []byte) error {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return &hopeless{fmt.Errorf("no answer of HTTP: %.60q", b)}
	}
	body, err := io.ReadAll(r.Body)
	_ = r.Body.Close() // it is memory
	if errors.Is(err, io.ErrUnexpectedEOF) && len(b) < maxRefusal {
		return nil
	}
	err = errors.New(refused(r, body))
	switch {
	case r.StatusCode == http.StatusRequestTimeout, r.StatusCode == http.StatusTooManyRequests, r.StatusCode >= 500,
		bytes.Contains(body, []byte(wire.CodeUnknownSymbol)): // which may not have come there yet
		seconds, _ := strconv.Atoi(r.Header.Get("Retry-After")) // or a date, which is as good as none
		return &busy{err, min(time.Duration(max(0, seconds))*time.Second, maxPause)}
	}
	return &hopeless{err}
}

// maxPause is how long a server may have a client wait.
const maxPause = 10 * time.Second

// busy is a refusal that may pass.
type busy struct {
	error
	pause time.Duration // that the server has asked for
}

func (b *busy) Unwrap() error { return b.error }

// refused says how it was refused: the status, and the body's first line.
func refused(r *http.Response, body []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	switch to := r.Header.Get("Location"); {
	case to != "":
		line = "go to " + to
	case line == "":
		return "refused: " + r.Status
	}
	return fmt.Sprintf("refused: %s: %.300s", r.Status, strings.TrimSpace(line))
}
