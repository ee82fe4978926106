package sse

import (
	"strings"
	"testing"

	"github.com/tickwire/tickwire/services/internal/rest"
)

func TestSpec(t *testing.T) {
	parse := func(name, query string) (spec, *rest.Problem) {
		return parseSpec(name, func(param string) string {
			for _, pair := range strings.Split(query, "&") {
				if k, v, _ := strings.Cut(pair, "="); k == param {
					return v
				}
			}
			return ""
		})
	}
	f := func(name, query, want string) {
		t.Helper()
		p, wrong := parse(name, query)
		if wrong != nil || p.key() != want {
			t.Errorf("%s?%s: %q %v, want %q", name, query, p.key(), wrong, want)
		}
	}
	f("ticker", "symbols=eth-usdt, BTC-USDT,ETH-USDT", "ticker 1s BTC-USDT,ETH-USDT 1000 false")
	f("ticker", "symbols=BTC-USDT@KRAKEN&rate=100ms", "ticker 1s BTC-USDT@kraken 100 false")
	f("ticker/all", "rate=5s&hb=event", "ticker 1s * 5000 true")
	f("bbo", "symbols=A&rate=250", "bbo 1s A 250 false")
	f("trades", "symbols=A", "trades 1s A 0 false")
	f("trades", "symbols=A&rate=0&iv=", "trades 1s A 0 false")
	f("bars", "symbols=A&iv=1h", "bars 1h A 1000 false")
	bad := func(name, query string, status int, param string) {
		t.Helper()
		if p, wrong := parse(name, query); wrong == nil || wrong.Status != status || wrong.Param != param {
			t.Errorf("%s?%s: %q %+v", name, query, p.key(), wrong)
		}
	}
	bad("book", "symbols=A", 404, "")
	bad("trades/all", "", 404, "")
	bad("ticker", "", 400, "symbols")
	bad("ticker", "symbols=A,,B", 400, "symbols")
	bad("ticker", "symbols=A\r\nid: 7", 400, "symbols")
	bad("ticker", "symbols=A\x00", 400, "symbols")
	bad("ticker", "symbols="+strings.Repeat("A", 65), 400, "symbols")
	bad("ticker", "symbols="+strings.Repeat("A,", 5000)+"A", 400, "symbols")
	bad("ticker/all", "symbols=A", 400, "symbols")
	bad("ticker", "symbols=A&rate=0", 400, "rate")
	bad("ticker", "symbols=A&rate=99ms", 400, "rate")
	bad("ticker", "symbols=A&rate=-1s", 400, "rate")
	bad("ticker", "symbols=A&iv=1m", 400, "iv")
	bad("bars", "symbols=A&iv=2m", 400, "iv")
	bad("bars", "symbols=A&hb=yes", 400, "hb")
}
