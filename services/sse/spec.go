package sse

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/services/internal/rest"
)

// spec is what a client asks for, in canonical form: equal wishes are equal specs.
type spec struct {
	channel  market.Channel
	interval market.Interval // of bars
	all      bool            // every instrument
	syms     []string        // ascending, each once
	rate     time.Duration   // of what is sent together; 0 sends everything at once
	beats    bool            // heartbeats are events, not comments
}

const maxSymbols = 64

// rates are what may be asked for; a channel has its own default. Trades alone may go out one by one.
var (
	rates       = []time.Duration{100 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second}
	defaultRate = map[market.Channel]time.Duration{
		market.Tickers: time.Second, market.BBOs: 250 * time.Millisecond, market.Bars: time.Second, market.Trades: 0,
	}
)

// streamed are the channels that are streams, by their names in the path.
var streamed = map[string]market.Channel{"ticker": market.Tickers, "bbo": market.BBOs, "trades": market.Trades, "bars": market.Bars}

// dated tells whether the stream's events have places in md.events, by which it can be resumed.
func (p *spec) dated() bool { return p.channel == market.Trades || p.channel == market.Bars }

// key is the same for equal specs.
func (p *spec) key() string {
	symbols := strings.Join(p.syms, ",")
	if p.all {
		symbols = "*"
	}
	return fmt.Sprintf("%s %s %s %d %t", p.channel, p.interval, symbols, p.rate.Milliseconds(), p.beats)
}

// parameter is one of a request's.
type parameter func(name string) string

// parseSpec reads the request for /v1/sse/{name}. It says which parameter is wrong.
func parseSpec(name string, query parameter) (p spec, wrong *rest.Problem) {
	base, all := strings.CutSuffix(name, "/all")
	ch, ok := streamed[base]
	if !ok || all && ch != market.Tickers {
		return p, &rest.Problem{Status: 404, Code: "unknown_channel", Detail: "streams are ticker, bbo, trades, bars, and ticker/all"}
	}
	p = spec{channel: ch, all: all, rate: defaultRate[ch], beats: query("hb") == "event"}
	bad := func(param, format string, args ...any) (spec, *rest.Problem) {
		return p, &rest.Problem{Status: 400, Code: "bad_request", Detail: fmt.Sprintf(format, args...), Param: param}
	}
	if v := query("hb"); v != "" && v != "event" {
		return bad("hb", "event, or nothing")
	}
	if v := query("rate"); v != "" {
		if p.rate, ok = parseRate(v, ch == market.Trades); !ok {
			return bad("rate", "100ms, 250ms, 1s or 5s%s", map[bool]string{true: ", or 0 for each trade as it comes"}[ch == market.Trades])
		}
	}
	p.interval = market.Minute
	switch v := query("iv"); {
	case ch != market.Bars:
		p.interval = 0
		if v != "" {
			return bad("iv", "only bars have an interval")
		}
	case v != "":
		var err error
		if p.interval, err = market.ParseInterval(v); err != nil {
			return bad("iv", "1s, 1m, 5m, 15m, 1h, 4h or 1d")
		}
	}
	list := query("symbols")
	if all {
		if list != "" {
			return bad("symbols", "ticker/all is of all instruments")
		}
		return p, nil
	}
	if p.syms, ok = parseSymbols(list); !ok {
		return bad("symbols", "from 1 to %d symbols, such as BTC-USDT,ETH-USDT", maxSymbols)
	}
	return p, nil
}

// parseRate reads 250ms, 1s, or 250.
func parseRate(v string, zero bool) (time.Duration, bool) {
	if n, err := strconv.Atoi(v); err == nil {
		v = strconv.Itoa(n) + "ms"
	}
	d, err := time.ParseDuration(v)
	return d, err == nil && (slices.Contains(rates, d) || zero && d == 0)
}

// parseSymbols reads a list of symbols. Letters are upper case in a canonical list, except behind the @ of a venue, which is
// lower case.
func parseSymbols(list string) (syms []string, ok bool) {
	if len(list) > maxSymbols*64 {
		return nil, false
	}
	for _, sym := range strings.Split(list, ",") {
		name, venue, at := strings.Cut(strings.TrimSpace(sym), "@")
		if sym = strings.ToUpper(name); at {
			sym += "@" + strings.ToLower(venue)
		}
		if sym == "" || len(sym) > 64 || strings.ContainsFunc(sym, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, false
		}
		syms = append(syms, sym)
	}
	slices.Sort(syms)
	syms = slices.Compact(syms)
	return syms, len(syms) <= maxSymbols
}
