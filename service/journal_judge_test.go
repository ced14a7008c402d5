package service

import "testing"

func TestJudge(t *testing.T) {
	killed, crashed := death{}, death{crashed: true}
	outOfMemory, version := death{outOfMemory: true}, death{crashed: true, newVersionCrashed: true}
	for _, test := range []struct {
		name  string
		how   death
		state slotState
		died  uint8
		want  slotState
		now   uint8
	}{
		{"nothing", crashed, slotFree, 0, slotFree, 0},
		{"killed among others", killed, slotConcurrent, 0, slotSuspect, 0},
		{"crashed among others", crashed, slotConcurrent, 0, slotSuspect, 0},
		{"out of memory among others", outOfMemory, slotConcurrent, 0, slotSuspect, 0},
		{"a version crashed it among others", version, slotConcurrent, 0, slotFree, 0},
		{"killed alone", killed, slotAlone, 0, slotSuspect, 1},
		{"killed alone again", killed, slotAlone, 1, slotSuspect, 2},
		{"killed alone for the third time", killed, slotAlone, 2, slotGuilty, 2},
		{"crashed alone", crashed, slotAlone, 0, slotGuilty, 0},
		{"out of memory alone", outOfMemory, slotAlone, 1, slotGuilty, 1},
		{"a version crashed it alone", version, slotAlone, 2, slotSuspect, 2},
		{"not tried", crashed, slotSuspect, 2, slotSuspect, 2},
		{"not committed", version, slotGuilty, 0, slotGuilty, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := slot{suspectOf(recordAt(1)), test.state, test.died}
			want := slot{in.suspect, test.want, test.now}
			if got := test.how.judge(in); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// One death alone is enough if the kernel has killed for memory meanwhile: in
// the same cgroup, and no version is unproven.
func TestJournalOutOfMemory(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after killCount
		version       int64
		guilty        int
	}{
		{"killed for memory", killCount{7, 2}, killCount{7, 3}, 0, 1},
		{"killed by somebody", killCount{7, 2}, killCount{7, 2}, 0, 0},
		{"another cgroup", killCount{7, 2}, killCount{8, 3}, 0, 0},
		{"no count", killCount{}, killCount{}, 0, 0},
		{"a version is unproven", killCount{7, 2}, killCount{7, 3}, 5, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			mem, now := make(journalFile, journalBytes), test.before
			start := func() *journal { return resume(mem, "in", func() killCount { return now }, blameless) }
			mustBegin(t, start(), 1)
			j := start()
			now.kills++ // before it was begun
			test.after.kills++
			mustBegin(t, j, 1)
			j.setUnproven(test.version, test.version != 0)
			now = test.after
			start().check(t, 1-test.guilty, test.guilty)
		})
	}
}
