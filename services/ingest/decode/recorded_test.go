package decode_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorded opens a file of the recorded data, or skips the test where there is none.
func recorded(tb testing.TB, name string) io.Reader {
	tb.Helper()
	root := os.Getenv("TICKWIRE_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "data")
	}
	f, err := os.Open(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		tb.Skipf("no recorded data (set TICKWIRE_DATA): %v", err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	if !strings.HasSuffix(name, ".gz") {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	return z
}

// lines calls fn with each line's payload, which stands behind the first sep.
func lines(tb testing.TB, name, sep string, fn func(payload []byte)) {
	tb.Helper()
	in := bufio.NewScanner(recorded(tb, name))
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		if _, payload, ok := bytes.Cut(in.Bytes(), []byte(sep)); ok && (payload[0] == '{' || payload[0] == '[') {
			fn(payload)
		}
	}
	if err := in.Err(); err != nil {
		tb.Fatal(err)
	}
}
