package testenv

import (
	"testing"
	"time"
)

func TestCluster(t *testing.T) {
	t.Parallel() // it mostly waits
	begin := time.Now()
	took := func(what string) {
		t.Helper()
		t.Logf("%s: %v", what, time.Since(begin).Round(time.Millisecond))
		begin = time.Now()
	}
	c := StartCluster(t, 3)
	took("start")
	created, err := c.admin.CreateTopics(t.Context(), 3, -1, nil, "topic")
	if err == nil {
		err = created.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.Lead(2, "topic")
	took("leaders moved")
	if got := c.Leader("topic", 1); got != 2 {
		t.Errorf("broker %d leads the partition, want 2", got)
	}
	c.Brokers[2].Kill()
	for c.Leader("topic", 1) == 2 {
		time.Sleep(50 * time.Millisecond)
	}
	took("another leader after a kill")
	if behind := c.behind(); behind == "" {
		t.Error("a cluster without one of its brokers is in sync")
	}
	c.Brokers[2].Restart()
	c.AwaitInSync()
	took("in sync again")
}
