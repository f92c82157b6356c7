package main

import "testing"

func TestGarbage(t *testing.T) {
	for live, want := range map[uint64]int{0: 50, 1 << 20: 50, 32 << 20: 50, 40 << 20: 40, 64 << 20: 25, 80 << 20: 20, 1 << 30: 20} {
		if got := garbage(live); got != want {
			t.Errorf("%d bytes in use: %d, want %d", live, got, want)
		}
	}
}
