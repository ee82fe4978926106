package sim

import (
	"fmt"

	"github.com/tickwire/tickwire/pkg/market"
)

// listing is an instrument and where its market begins.
type listing struct {
	market.Instrument
	price market.Price // the first mid price
	lot   market.Size  // the smallest usual size
}

// known are the first instruments of every market: names, prices and sizes as one knows them.
var known = []struct {
	sym        string
	ps, ss     uint8
	tick       market.Price
	price, lot int64
}{
	{"BTC-USDT", 2, 5, 1, 6173763, 120},
	{"ETH-USDT", 2, 4, 1, 268412, 250},
	{"SOL-USDT", 2, 3, 1, 15544, 600},
	{"BNB-USDT", 2, 3, 10, 52310, 150},
	{"XRP-USDT", 4, 0, 1, 5921, 150},
	{"DOGE-USDT", 5, 0, 1, 10243, 800},
	{"ADA-USDT", 4, 1, 1, 3387, 2000},
	{"LTC-USDT", 2, 3, 1, 6168, 1200},
	{"LINK-USDT", 3, 2, 1, 10434, 600},
	{"AVAX-USDT", 2, 2, 1, 2206, 300},
	{"BTC-EUR", 2, 5, 1, 5652417, 80},
	{"ETH-BTC", 5, 4, 1, 4347, 200},
}

// list returns the first n instruments of the market, their names behind prefix. Beyond the known ones they have made-up names, and prices and
// scales of all sorts.
func list(n int, prefix string) []listing {
	all := make([]listing, 0, n)
	for i := range n {
		var l listing
		if i < len(known) {
			k := known[i]
			l = listing{market.Instrument{Sym: k.sym, PriceScale: k.ps, SizeScale: k.ss, TickSize: k.tick}, market.Price(k.price), market.Size(k.lot)}
		} else {
			l = listing{
				Instrument: market.Instrument{
					Sym: fmt.Sprintf("SIM%03d-USD", i), PriceScale: uint8(2 + i%4), SizeScale: uint8(i % 6), TickSize: 1,
				},
				price: market.Price(4000 + i*7919%90000),
				lot:   market.Size(20 + i*104729%2000),
			}
		}
		l.Sym = prefix + l.Sym
		l.ID, l.Source, l.Symbol = 0, "tickwire", l.Sym
		all = append(all, l)
	}
	return all
}
