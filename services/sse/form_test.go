package sse

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// TestTally sends texts in compressed chunks, from the first or a later one, and has the standard library check the end.
func TestTally(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var texts []string
	for range 40 {
		texts = append(texts, strings.Repeat("event: trade\ndata: {}\n\n", rnd.IntN(2000)))
	}
	for from := range texts {
		if from > 0 && from%7 != 0 {
			continue
		}
		var body bytes.Buffer
		body.Write(appendChunk(nil, []byte(gzipHeader)))
		sent := new(tally)
		for _, text := range texts[from:] {
			f := gzipped.frame([]byte(text))
			sent.Sent(f)
			body.Write(again(f).Bytes())
		}
		body.Write(sent.Last().Bytes())
		head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
		resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader(head), &body)), nil)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false)
		got, err := io.ReadAll(z)
		if err != nil {
			t.Fatalf("from %d: %v", from, err)
		}
		if want := strings.Join(texts[from:], ""); string(got) != want {
			t.Fatalf("from %d: %d bytes, want %d", from, len(got), len(want))
		}
		_ = resp.Body.Close()
	}
}

func TestShift(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 127, 128, 65_537, 1_000_003} {
		a, b := []byte("what was sent before"), bytes.Repeat([]byte{0xA5}, n)
		want := crc32.ChecksumIEEE(append(bytes.Clone(a), b...))
		if got := multiply(shiftBy(n), crc32.ChecksumIEEE(a)) ^ crc32.ChecksumIEEE(b); got != want {
			t.Errorf("%d bytes: %08x, want %08x", n, got, want)
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	f := func(header string, want bool) {
		t.Helper()
		if acceptsGzip(header) != want {
			t.Errorf("%q: %t", header, !want)
		}
	}
	f("", false)
	f("gzip", true)
	f("br, GZIP ; q = 0.5", true)
	f("gzip;q=0", false)
	f("gzip;Q=0", false)
	f("gzip;q=0.000", false)
	f("x-gzip", false)
	f("deflate", false)
}

func BenchmarkTally(b *testing.B) {
	f := gzipped.frame(bytes.Repeat([]byte("event: trade\ndata: {\"price\":\"61737.1\"}\n\n"), 20))
	t := new(tally)
	b.ReportAllocs()
	for b.Loop() {
		t.Sent(f)
	}
}

func BenchmarkFrame(b *testing.B) {
	text := bytes.Repeat([]byte("event: trade\ndata: {\"ch\":\"trades\",\"price\":\"61737.1\"}\n\n"), 20)
	for f, name := range map[form]string{chunked: "chunked", gzipped: "gzip"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				f.frame(text)
			}
		})
	}
}
