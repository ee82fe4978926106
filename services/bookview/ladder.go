package bookview

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tickwire/tickwire/pkg/book"
	"github.com/tickwire/tickwire/pkg/market"
)

// What a terminal is told.
const (
	enter = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	leave = "\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	eol   = "\x1b[K\r\n"
	below = "\x1b[J"
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

// frames is how often the screen is drawn.
const frames = 100 * time.Millisecond

// picture is what one frame shows, of one instant.
type picture struct {
	in         market.Instrument
	status     string
	good       bool
	trouble    string
	at         market.Sequence
	bids, asks []market.Level // best first
	depth      [2]int         // levels that the local book has
	trade      market.Trade
	traded     bool
	rate       float64
	now        market.Time
	gaps, bad  uint64
}

// shoot fills p with the best n levels.
func (v *viewer) shoot(p *picture, n int) {
	stats := v.book.BookStats()
	p.in, p.status, p.trouble = v.book.Instrument(), v.status(), v.meter.trouble()
	p.good = v.book.StaleFor() == 0
	p.gaps, p.bad = stats.Gaps, stats.Mismatches
	p.trade, p.traded = v.trades.Last()
	p.now = market.FromTime(time.Now())
	p.rate = v.meter.rate(time.Now())
	v.book.View(func(b *book.Book) {
		p.at = b.Sequence()
		p.bids = b.AppendLevels(p.bids[:0], market.Bid, n)
		p.asks = b.AppendLevels(p.asks[:0], market.Ask, n)
		p.depth = [2]int{b.Len(market.Bid), b.Len(market.Ask)}
	})
}

// draw follows the book on a terminal, whose size may change.
func (v *viewer) draw(ctx context.Context, size func() (width, height int)) error {
	_, _ = io.WriteString(v.out, enter)
	defer func() { _, _ = io.WriteString(v.out, leave) }()
	var p picture
	var b bytes.Buffer
	return v.each(ctx, frames, func() {
		w, h := size()
		v.shoot(&p, levelsThatFit(h))
		b.Reset()
		p.render(&b, w, h)
		_, _ = v.out.Write(b.Bytes())
	})
}

// around is how many lines are not levels: two above, one between the sides, two below.
const around = 5

func levelsThatFit(height int) int { return max((height-around)/2, 1) }

// render draws the ladder on a screen of so many columns and lines.
func (p *picture) render(b *bytes.Buffer, width, height int) {
	n := levelsThatFit(height)
	color := green
	if !p.good {
		color = red
	}
	b.WriteString(home)
	p.text(b, width, bold, p.in.Sym, "  ", color, p.status, plain, "  ", p.at.String(), fmt.Sprintf("  %.0f updates/s", p.rate))
	p.text(b, width, dim, p.last(), plain)
	most := market.Size(1)
	for _, side := range [2][]market.Level{p.bids, p.asks} {
		for _, l := range side {
			most = max(most, l.Size)
		}
	}
	for i := n - 1; i >= 0; i-- {
		p.level(b, width, p.asks, i, red, most)
	}
	p.text(b, width, dim, "      spread ", p.spread(), plain)
	for i := range n {
		p.level(b, width, p.bids, i, green, most)
	}
	p.text(b, width, dim, fmt.Sprintf("%d bids, %d asks; %d gaps, %d mismatches; Ctrl-C ends", p.depth[0], p.depth[1], p.gaps, p.bad), plain)
	if p.trouble != "" {
		p.text(b, width, red, p.trouble, plain)
	}
	b.WriteString(below)
}

// text writes a line, cut to the width. Pieces that begin with ESC take no room.
func (p *picture) text(b *bytes.Buffer, width int, pieces ...string) {
	for _, s := range pieces {
		if strings.HasPrefix(s, "\x1b") {
			b.WriteString(s)
			continue
		}
		s = s[:min(len(s), max(width, 0))]
		width -= len(s)
		b.WriteString(s)
	}
	b.WriteString(plain + eol)
}

// level writes level i of a side, with a bar as long as its size.
func (p *picture) level(b *bytes.Buffer, width int, side []market.Level, i int, color string, most market.Size) {
	if i >= len(side) {
		b.WriteString(eol)
		return
	}
	const numbers = 34
	l := side[i]
	room := min(width-numbers, 40)
	bar := ""
	if room > 0 {
		// MulFixed saturates, so that no size is too large to draw.
		bar = strings.Repeat("=", int(market.MulFixed(market.Price(room), l.Size, 0)/int64(most)))
	}
	p.text(b, width, color, fmt.Sprintf("%16s", decimals(l.Price, p.in.PriceScale)), plain,
		fmt.Sprintf(" %16s ", decimals(l.Size, p.in.SizeScale)), dim, color, bar, plain)
}

// line is the picture in one line.
func (p *picture) line() string {
	side := func(levels []market.Level) string {
		if len(levels) == 0 {
			return "-"
		}
		return decimals(levels[0].Size, p.in.SizeScale) + " @ " + decimals(levels[0].Price, p.in.PriceScale)
	}
	s := fmt.Sprintf("%s %s %s  bid %s  ask %s  spread %s  %.0f updates/s  %s", p.now.Std().Format(time.TimeOnly), p.in.Sym, p.status,
		side(p.bids), side(p.asks), p.spread(), p.rate, p.last())
	if p.trouble != "" {
		s += "  (" + p.trouble + ")"
	}
	return s
}

func (p *picture) spread() string {
	if len(p.bids) == 0 || len(p.asks) == 0 {
		return "-"
	}
	return decimals(p.asks[0].Price-p.bids[0].Price, p.in.PriceScale)
}

// last describes the newest trade.
func (p *picture) last() string {
	if !p.traded {
		return "no trade yet"
	}
	verb := map[market.Side]string{market.Bid: "bought", market.Ask: "sold"}[p.trade.Side]
	if verb == "" {
		verb = "traded"
	}
	age := max(time.Duration(p.now-p.trade.Time), 0)
	return fmt.Sprintf("last %s %s @ %s, %s ago", verb, decimals(p.trade.Size, p.in.SizeScale), decimals(p.trade.Price, p.in.PriceScale),
		age.Truncate(100*time.Millisecond))
}

// decimals writes v with all its decimal places, so that columns align.
func decimals[T ~int64](v T, scale uint8) string {
	s := string(market.AppendFixed(nil, v, scale))
	if scale == 0 {
		return s
	}
	whole, fraction, _ := strings.Cut(s, ".")
	return whole + "." + fraction + strings.Repeat("0", int(scale)-len(fraction))
}
