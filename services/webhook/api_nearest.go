package webhook

import (
	"slices"
	"strings"
)

// nearest are the names that somebody may have meant who wrote another one: those that begin or end alike, and those that a
// typing error or two lead to; the nearest first, at most so many.
func nearest(wrong string, names []string, most int) []string {
	type candidate struct {
		name string
		far  int
	}
	var all []candidate
	for _, name := range names {
		far := distance(wrong, name)
		if stem, _, ok := strings.Cut(name, "@"); ok && stem == wrong {
			far = 0
		} else if len(wrong) >= 3 && strings.HasPrefix(name, wrong) {
			far = min(far, 1)
		}
		if far <= 2 && far < len(wrong) {
			all = append(all, candidate{name, far})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		if a.far != b.far {
			return a.far - b.far
		}
		return strings.Compare(a.name, b.name)
	})
	var out []string
	for _, c := range all[:min(most, len(all))] {
		out = append(out, c.name)
	}
	return out
}

// distance is how many letters have to be put in, left out or exchanged to make one name of another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
