package report

import "math"

// student is what the absolute value of Student's t stays below with probability p.
func student(p, freedom float64) float64 {
	// Newton's method from the normal distribution's value, which is less. The probability's slope falls, so that no step goes too far.
	t := math.Sqrt2 * math.Erfinv(p)
	lg := func(x float64) float64 { v, _ := math.Lgamma(x); return v }
	scale := math.Exp(lg((freedom+1)/2)-lg(freedom/2)) / math.Sqrt(freedom*math.Pi)
	for range 200 {
		inside := 1 - beta(freedom/(freedom+t*t), freedom/2, 0.5)
		step := (p - inside) / (2 * scale * math.Pow(1+t*t/freedom, -(freedom+1)/2))
		t += step
		if math.Abs(step) < 1e-9*t {
			break
		}
	}
	return t
}

// beta is the regularised incomplete beta function I_x(a, b), by its continued fraction (Abramowitz and Stegun, 26.5.8).
func beta(x, a, b float64) float64 {
	if x <= 0 || x >= 1 {
		return min(1, max(0, x))
	}
	if x > (a+1)/(a+b+2) { // where the fraction converges slowly
		return 1 - beta(1-x, b, a)
	}
	lab, _ := math.Lgamma(a + b)
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	// Lentz's algorithm.
	const tiny = 1e-300
	keep := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/keep(1-(a+b)*x/(a+1))
	f := d
	for m := 1.0; m < 300; m++ {
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d, c = 1/keep(1+even*d), keep(1+even/c)
		f *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d, c = 1/keep(1+odd*d), keep(1+odd/c)
		f *= d * c
		if math.Abs(d*c-1) < 1e-12 {
			break
		}
	}
	return front * f
}
