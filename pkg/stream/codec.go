package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/segmentio/kafka-go/compress"
)

// maxInflated bounds what one record batch may grow to when it is decompressed.
const maxInflated = 64 << 20

// codec holds the compressors of one reader or writer. The zero value is ready; it is not safe for concurrent use.
type codec struct {
	lz4w  *lz4.Writer
	lz4r  *lz4.Reader
	zstdw *zstd.Encoder
	zstdr *zstd.Decoder
	src   bytes.Reader
	dst   appender
}

// appender is an io.Writer over append.
type appender struct{ b []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.b = append(a.b, p...)
	return len(p), nil
}

// compress appends the compressed form of src to dst.
func (z *codec) compress(dst, src []byte, c Compression) ([]byte, error) {
	switch c {
	case LZ4:
		return z.compressLZ4(dst, src)
	case Zstd:
		if z.zstdw == nil {
			w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
			if err != nil {
				return nil, fmt.Errorf("zstd: %w", err)
			}
			z.zstdw = w
		}
		return z.zstdw.EncodeAll(src, dst), nil
	}
	return nil, fmt.Errorf("compression %d can't be written", c)
}

func (z *codec) compressLZ4(dst, src []byte) ([]byte, error) {
	z.dst.b = dst
	if z.lz4w == nil {
		z.lz4w = lz4.NewWriter(&z.dst)
		// Independent blocks without checksums are what every Kafka client reads; the batch has its own CRC.
		if err := z.lz4w.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)); err != nil {
			return nil, fmt.Errorf("lz4: %w", err)
		}
	} else {
		z.lz4w.Reset(&z.dst)
	}
	if _, err := z.lz4w.Write(src); err != nil {
		return nil, fmt.Errorf("lz4: %w", err)
	}
	if err := z.lz4w.Close(); err != nil {
		return nil, fmt.Errorf("lz4: %w", err)
	}
	dst, z.dst.b = z.dst.b, nil
	return dst, nil
}

// inflate appends the decompressed form of src to dst.
func (z *codec) inflate(dst, src []byte, c Compression) ([]byte, error) {
	switch c {
	case Gzip, Snappy:
		r := compress.Compression(c).Codec().NewReader(bytes.NewReader(src))
		dst, err := readInto(dst, r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		return dst, err
	case LZ4:
		z.src.Reset(src)
		if z.lz4r == nil {
			z.lz4r = lz4.NewReader(&z.src)
		} else {
			z.lz4r.Reset(&z.src)
		}
		return readInto(dst, z.lz4r)
	case Zstd:
		if z.zstdr == nil {
			r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxInflated))
			if err != nil {
				return nil, fmt.Errorf("zstd: %w", err)
			}
			z.zstdr = r
		}
		return z.zstdr.DecodeAll(src, dst)
	}
	return nil, fmt.Errorf("unknown compression %d", c)
}

// readInto appends all that r gives to dst, up to maxInflated bytes.
func readInto(dst []byte, r io.Reader) ([]byte, error) {
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		switch {
		case len(dst) > maxInflated:
			return dst, fmt.Errorf("inflates to more than %d bytes", maxInflated)
		case errors.Is(err, io.EOF):
			return dst, nil
		case err != nil:
			return dst, err
		}
	}
}

// close frees what the compressors hold outside the garbage collector's sight.
func (z *codec) close() {
	if z.zstdr != nil {
		z.zstdr.Close()
		z.zstdr = nil
	}
}
