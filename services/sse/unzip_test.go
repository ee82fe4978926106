package sse

import (
	"compress/gzip"
	"io"
	"testing"
)

// newUnzipper checks the stream's CRC and length at its end.
func newUnzipper(t testing.TB, r io.Reader) io.Reader {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	return z
}
