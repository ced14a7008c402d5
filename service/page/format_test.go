package page

import (
	"testing"
	"time"
)

func TestFormats(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{formatBytes(0), "0 KiB"}, {formatBytes(92 << 20), "92 MiB"}, {formatBytes(3 << 29), "1.5 GiB"}, {formatBytes(64 << 30), "64 GiB"},
		{formatBytes(-1), "0 KiB"},
		{formatCount(0), "0"}, {formatCount(999), "999"}, {formatCount(-1000), "-1\u202f000"}, {formatCount(1234567), "1\u202f234\u202f567"},
		{formatDuration(400 * time.Millisecond), "0 s"}, {formatDuration(59*time.Second + 600*time.Millisecond), "1 min 0 s"},
		{formatDuration(3 * time.Hour), "3 h 0 min"}, {formatDuration(50 * time.Hour), "2 d 2 h"},
		{formatMilliseconds(0.26), "0.3 ms"}, {formatMilliseconds(99.6), "100 ms"}, {formatMilliseconds(2340), "2.3 s"}, {formatMilliseconds(60_000), "60 s"},
		{formatRate(0), "0"}, {formatRate(0.05), "0.05"}, {formatRate(3.14), "3.1"}, {formatRate(4321.4), "4\u202f321"},
		{percent(0.982), "98.2%"}, {percent(1.2), "100.0%"}, {percent(-1), "0.0%"},
		{Record{Reason: "undecodable", Detail: "undecodable: png: cut"}.Details(), "png: cut"}, {Record{Detail: "boxes [2, 2]"}.Details(), "boxes [2, 2]"},
		{shortDigest("sha256:9f2c41d07b1e55aa02"), "9f2c41d07b1e"}, {shortDigest("abc"), "abc"}, {shortDigest(""), ""},
		{short("inception, version 1, sha256:06df2e2b8410227b3d4beb75f26dd01a"), "inception, version 1, sha256:06df2e2b8410"}, {short("sha256:abc"), "sha256:abc"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// Partitions that are stuck, or far behind, are never folded away before others; and those that are
// shown keep their order.
func TestWorstPartitions(t *testing.T) {
	var d data
	for i := range 20 {
		d.Partitions = append(d.Partitions, Partition{Topic: "in", Number: i})
	}
	d.Partitions[19].Lag, d.Partitions[12].Stuck, d.Partitions[15].Stuck = 100, "reason", "reason"
	var got []int
	for _, p := range d.WorstPartitions().List[:partitionsShown] {
		got = append(got, p.Number)
	}
	want := []int{0, 1, 2, 3, 4, 12, 15, 19}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	if reasons := d.StuckReasons().List; len(reasons) != 1 || len(reasons[0].Partitions) != 2 || reasons[0].Partitions[1] != "in-15" {
		t.Errorf("got %v", reasons)
	}
}

func TestMemoryShares(t *testing.T) {
	got := Memory{Resident: 50, Limit: 200, Model: 20, Go: 10, Library: 20}.Shares()
	for i, want := range []struct{ name, x, width string }{{"model", "0.0%", "10.0%"}, {"Go", "10.0%", "5.0%"}, {"library", "15.0%", "10.0%"}} {
		if got[i].Name != want.name || got[i].X != want.x || got[i].Percent != want.width {
			t.Errorf("got %+v, want %+v", got[i], want)
		}
	}
}
