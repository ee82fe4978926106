package book_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

// The vectors were computed by an independent program from the specification, not by this package.
type vectors struct {
	Mix64 []struct{ Side, Price, Size, Hash string }
	Books []struct {
		Bids, Asks [][2]string
		Hash       string
	}
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("testdata/hash.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func integer(t *testing.T, s string) int64 {
	t.Helper()
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMix64Vectors(t *testing.T) {
	v := readVectors(t)
	if len(v.Mix64) < 12 {
		t.Fatalf("only %d vectors", len(v.Mix64))
	}
	for _, c := range v.Mix64 {
		side := market.Bid
		if c.Side == "ask" {
			side = market.Ask
		}
		got := book.Mix64(side, market.Price(integer(t, c.Price)), market.Size(integer(t, c.Size)))
		if text := fmt.Sprintf("%016x", got); text != c.Hash {
			t.Errorf("mix64(%s, %s, %s) = %s, want %s", c.Side, c.Price, c.Size, text, c.Hash)
		}
	}
}

func TestBookVectors(t *testing.T) {
	levels := func(rows [][2]string) (ls []market.Level) {
		for _, r := range rows {
			ls = append(ls, market.Level{Price: market.Price(integer(t, r[0])), Size: market.Size(integer(t, r[1]))})
		}
		return ls
	}
	for _, c := range readVectors(t).Books {
		var b book.Book
		b.Replace(levels(c.Bids), levels(c.Asks))
		if got := fmt.Sprintf("%016x", b.Hash()); got != c.Hash {
			t.Errorf("hash of %v %v = %s, want %s", c.Bids, c.Asks, got, c.Hash)
		}
	}
}

// A sum that is blind to a bit of price, size or side would let faults pass; each bit must change about half of the hash.
func TestMix64Avalanche(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const rounds = 500
	for bit := range 129 {
		flipped := 0
		for range rounds {
			p, s := rng.Int64(), rng.Int64()
			a := book.Mix64(market.Bid, market.Price(p), market.Size(s))
			var b uint64
			switch {
			case bit < 64:
				b = book.Mix64(market.Bid, market.Price(p^1<<bit), market.Size(s))
			case bit < 128:
				b = book.Mix64(market.Bid, market.Price(p), market.Size(s^1<<(bit-64)))
			default:
				b = book.Mix64(market.Ask, market.Price(p), market.Size(s))
			}
			for x := a ^ b; x != 0; x &= x - 1 {
				flipped++
			}
		}
		if share := float64(flipped) / (64 * rounds); math.Abs(share-0.5) > 0.02 {
			t.Errorf("bit %d flips %.3f of the hash", bit, share)
		}
	}
}

func TestHashLevelsIgnoresOrderAndEmptyLevels(t *testing.T) {
	a := []market.Level{{Price: 3, Size: 1}, {Price: 2, Size: 9}}
	b := []market.Level{{Price: 2, Size: 9}, {Price: 7}, {Price: 3, Size: 1}}
	if book.HashLevels(a, b) != book.HashLevels(b, a) || book.HashLevels(a, nil) == book.HashLevels(nil, a) {
		t.Error("order or empty levels count, or sides do not")
	}
	if book.HashLevels(nil, nil) != 0 {
		t.Error("the empty book has a hash")
	}
}

func BenchmarkMix64(b *testing.B) {
	b.ReportAllocs()
	var sum uint64
	for i := range b.N {
		sum += book.Mix64(market.Bid, market.Price(i), 40000000)
	}
	sink = sum
}

var sink uint64
