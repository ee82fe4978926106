package rule_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/webhook/rule"
)

func FuzzParse(f *testing.F) {
	f.Add(`{"series":"last","op":"crosses_above","limit":"65000.5"}`, uint8(2), uint8(8))
	f.Add(`{"series":"volume_ratio","window":"90m","window2":"24h","op":"at_or_below","limit":"1.25","mode":"recurring",`+
		`"hysteresis":"0.5","cooldown":"5m","hold_for":"30s","expires_at":"2026-03-02T12:00:25.5+01:00","on_gap":"reset"}`, uint8(0), uint8(0))
	f.Add(`{"series":"ma_diff","window":"1m","window2":"2m","op":"at_or_above","limit":"-0.00000000000000000001"}`, uint8(18), uint8(18))
	f.Fuzz(func(t *testing.T, text string, price, size uint8) {
		of := rule.Scales{Price: price % (market.MaxScale + 1), Size: size % (market.MaxScale + 1)}
		s, err := rule.Parse([]byte(text), of)
		if err != nil {
			var fe *rule.FieldError
			if !errors.As(err, &fe) || fe.Field == "" || fe.Msg == "" || s != (rule.Spec{}) {
				t.Fatalf("%v, %+v", err, s)
			}
			return
		}
		canonical := s.AppendJSON(nil, of)
		again, err := rule.Parse(canonical, of)
		if err != nil || again != s || !bytes.Equal(again.AppendJSON(nil, of), canonical) {
			t.Fatalf("%s: %v, %+v, want %+v", canonical, err, again, s)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add([]byte{})
	f.Add(rule.State{}.Append(nil))
	f.Add(rule.State{ArmSeq: 7, Disarmed: true, Until: epoch}.Append(nil))
	f.Add(rule.State{ArmSeq: 1 << 31, Pending: true, Since: epoch, Until: -1}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := rule.DecodeState(b)
		if err == nil && len(b) > 0 && !bytes.Equal(s.Append(nil), b) {
			t.Fatalf("%x is %+v, whose bytes are %x", b, s, s.Append(nil))
		}
	})
}

// images are those of a partition that has seen a bit of everything.
func images(t testing.TB) (all [][]byte) {
	b := newBench(t)
	for inst := range uint32(2) {
		b.define(inst + 1)
		b.snapshot(inst+1, 1, levels(9_990, 9_980), levels(10_010, 10_030))
		b.live(inst + 1)
		for i := range 5 {
			b.trade(inst+1, market.Price(10_000+i*7), market.Size(1+i))
			b.pass(40 * time.Second)
		}
	}
	b.tradeGap(1)
	b.snapshot(2, 3, levels(9_990, 9_980, 9_970), levels(10_010, 10_020, 10_030))
	b.events = b.events[:len(b.events)-1] // its last part is missing
	b.run()
	b.p.Images(10, 1<<62, func(_ uint32, image []byte) { all = append(all, bytes.Clone(image)) })
	return all
}

// FuzzRestore restores an image from a bad disk, as it is and with its checksum made right, and goes on from there.
func FuzzRestore(f *testing.F) {
	for _, image := range images(f) {
		f.Add(image)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, image []byte) {
		restore(t, image)
		if len(image) >= 4 {
			body := image[: len(image)-4 : len(image)-4]
			restore(t, binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))))
		}
	})
}

func restore(t *testing.T, image []byte) {
	p := rule.NewPartition()
	if err := p.Restore(1<<40, image); err != nil {
		if !errors.Is(err, rule.ErrImage) {
			t.Fatal(err)
		}
		return
	}
	p.Instruments(func(s market.Status) {
		for series := range rule.MADiff + 1 {
			spec := rule.Spec{Series: series}
			switch series {
			case rule.ChangePct, rule.FromHighPct, rule.FromLowPct, rule.Volume:
				spec.W1 = 5
			case rule.VolumeRatio, rule.MADiff:
				spec.W1, spec.W2 = 5, 1440
			}
			_, err := p.Add(int64(series), s.Inst, spec, rule.State{})
			if err != nil && !errors.Is(err, rule.ErrDelisted) {
				t.Fatal(err)
			}
		}
	})
	feed := newFeed(t)
	feed.define(1)
	for range 3 {
		feed.pass(time.Minute)
		feed.trade(1, 10_000, 1)
		feed.snapshot(1, 2, levels(10, 9), levels(11, 12))
		feed.live(1)
		feed.update(1, nil, levels(20))
	}
	var out rule.Output
	for i := range feed.events {
		feed.events[i].Offset += p.Offset() + 1
		must(t, p.Apply(&feed.events[i], &out))
	}
}

// TestDamagedImage flips each bit of images, which must be noticed.
func TestDamagedImage(t *testing.T) {
	for _, image := range images(t) {
		for bit := range 8 * len(image) {
			bad := bytes.Clone(image)
			bad[bit/8] ^= 1 << (bit % 8)
			if err := rule.NewPartition().Restore(1<<40, bad); !errors.Is(err, rule.ErrImage) {
				t.Fatalf("bit %d: %v", bit, err)
			}
		}
		for n := range image {
			if err := rule.NewPartition().Restore(1<<40, image[:n]); !errors.Is(err, rule.ErrImage) {
				t.Fatalf("%d of %d bytes: %v", n, len(image), err)
			}
		}
		if err := rule.NewPartition().Restore(3, image); !errors.Is(err, rule.ErrImage) {
			t.Fatalf("from behind the checkpoint: %v", err)
		}
	}
}
