package report

import (
	"math"
	"testing"
)

// The values are those of printed tables.
func TestStudent(t *testing.T) {
	for _, c := range []struct{ p, freedom, want float64 }{
		{0.95, 1, 12.706},
		{0.95, 2, 4.303},
		{0.95, 3, 3.182},
		{0.95, 4, 2.776},
		{0.95, 8, 2.306},
		{0.95, 20, 2.086},
		{0.95, 120, 1.980},
		{0.95, 1e6, 1.960},
		{0.99, 1, 63.657},
		{0.99, 4, 4.604},
		{0.99, 10, 3.169},
		{0.999, 2, 31.599},
		{0.999, 4, 8.610},
		{0.999, 30, 3.646},
		{0.9, 5, 2.015},
		{0.5, 1, 1},
	} {
		if got := student(c.p, c.freedom); math.Abs(got-c.want) > 0.0006*c.want {
			t.Errorf("%v with %v degrees of freedom: %v, want %v", c.p, c.freedom, got, c.want)
		}
	}
}
