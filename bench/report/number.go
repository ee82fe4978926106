package report

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Number writes a figure as people read it: three digits that count, and separators. NaN, which is not known, is "-".
func Number(v float64) string {
	abs := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case abs >= 999.5:
		return thousands(strconv.FormatFloat(v, 'f', 0, 64))
	case v == math.Trunc(v) || abs >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.9995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case abs >= 0.0005:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

func thousands(digits string) string {
	sign, digits := digits[:len(digits)-len(strings.TrimLeft(digits, "-"))], strings.TrimLeft(digits, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// quantity is a figure with its unit.
func quantity(v float64, unit string) string {
	switch unit {
	case "":
		return Number(v)
	case "/s", "×":
		return Number(v) + unit
	}
	return Number(v) + " " + unit
}

// clock is a duration that changes its precision as it grows.
func clock(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}
