package decode

import (
	"math"

	"github.com/tickwire/tickwire/pkg/market"
)

// Times on the wire come in four spellings, and all of them are truncated to whole microseconds.

// micros reads a time in whole microseconds, a JSON number.
func (s *scanner) micros(field string) market.Time {
	return s.instant(field, s.unsigned(ReasonTime, field, false), 1)
}

// millis reads a time in milliseconds, or in microseconds when it is too great for that: Binance sends either, as the
// connection asks. The border, 1e14, is the year 5138 in one reading and 1973 in the other.
func (s *scanner) millis(field string) market.Time {
	v := s.unsigned(ReasonTime, field, false)
	if v >= 1e14 {
		return s.instant(field, v, 1)
	}
	return s.instant(field, v, 1000)
}

func (s *scanner) instant(field string, v, micros uint64) market.Time {
	if s.err != nil {
		return 0
	}
	if v == 0 || v > math.MaxInt64/1000/micros {
		s.fail(ReasonTime, field, market.ErrRange)
		return 0
	}
	return market.FromMicros(int64(v * micros))
}

// seconds reads a time in seconds with up to nine decimals, as Kraken v1 sends it in a string.
func (s *scanner) seconds(field string) market.Time {
	text := s.decimal(field)
	if s.err != nil {
		return 0
	}
	v, err := market.ParseFixed(text, 9)
	if err == nil && v <= 0 {
		err = market.ErrRange
	}
	if err != nil {
		s.fail(ReasonTime, field, err)
		return 0
	}
	return market.FromMicros(market.Time(v).Micros())
}

// timestamp reads a time of RFC 3339, such as 2021-04-17T16:43:30.244075Z, in a string. It does not allocate, which
// time.Parse does.
func (s *scanner) timestamp(field string) market.Time {
	text := s.text(field)
	if s.err != nil {
		return 0
	}
	t, ok := parseTimestamp(text)
	if !ok {
		s.fail(ReasonTime, field, nil)
	}
	return t
}

func parseTimestamp(b []byte) (market.Time, bool) {
	if len(b) < len("2006-01-02T15:04:05Z") || b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	year, month, day := number(b[0:4]), number(b[5:7]), number(b[8:10])
	hour, minute, second := number(b[11:13]), number(b[14:16]), number(b[17:19])
	if year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		uint(hour) > 23 || uint(minute) > 59 || uint(second) > 59 {
		return 0, false
	}
	fraction, rest := fractionMicros(b[19:])
	zone, ok := zoneSeconds(rest)
	us := (int64(daysSince1970(year, month, day))*86400+int64(hour*3600+minute*60+second-zone))*1e6 + int64(fraction)
	return market.FromMicros(us), ok && fraction >= 0 && us > 0
}

// number reads digits; -1 when there is anything else.
func number(b []byte) int {
	v := 0
	for _, c := range b {
		if c -= '0'; c > 9 {
			return -1
		}
		v = v*10 + int(c)
	}
	return v
}

// fractionMicros reads an optional decimal fraction of a second; digits beyond the microsecond are cut off.
func fractionMicros(b []byte) (us int, rest []byte) {
	if len(b) == 0 || b[0] != '.' {
		return 0, b
	}
	i, unit := 1, 100_000
	for ; i < len(b) && b[i]-'0' <= 9; i++ {
		us += int(b[i]-'0') * unit
		unit /= 10
	}
	if i == 1 {
		return -1, nil
	}
	return us, b[i:]
}

// zoneSeconds reads Z or an offset such as +02:00.
func zoneSeconds(b []byte) (int, bool) {
	if len(b) == 1 && b[0] == 'Z' {
		return 0, true
	}
	if len(b) != len("+02:00") || b[3] != ':' || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	hour, minute := number(b[1:3]), number(b[4:6])
	if uint(hour) > 23 || uint(minute) > 59 {
		return 0, false
	}
	if b[0] == '-' {
		return -(hour*3600 + minute*60), true
	}
	return hour*3600 + minute*60, true
}

func leap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func daysIn(year, month int) int {
	if month == 2 && leap(year) {
		return 29
	}
	return [...]int{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
}

func daysSince1970(year, month, day int) int {
	y := year - 1
	days := y*365 + y/4 - y/100 + y/400 - 719162 // the days before 1970-01-01
	for m := 1; m < month; m++ {
		days += daysIn(year, m)
	}
	return days + day - 1
}
