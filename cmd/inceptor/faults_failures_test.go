package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// failures are what happens to the services and to their broker, by name. Each returns once all of
// them run again.
var failures = map[string]func(f *faultRun){
	"service killed": func(f *faultRun) {
		i := f.rng.IntN(len(f.services))
		pause := f.between(0, 2*time.Second)
		f.kill(f.services[i])
		time.Sleep(pause)
		f.services[i] = f.start(f.journal)
	},
	"service frozen": func(f *faultRun) {
		p := f.services[f.rng.IntN(len(f.services))]
		pause := f.pause()
		f.signal(p, syscall.SIGSTOP)
		time.Sleep(pause)
		f.signal(p, syscall.SIGCONT)
	},
	"service restarted": func(f *faultRun) {
		i := f.rng.IntN(len(f.services))
		f.terminate(f.services[i])
		f.services[i] = f.start(f.journal)
	},
	"member joins and leaves": func(f *faultRun) {
		leave := f.terminate
		if f.rng.IntN(2) == 0 {
			leave = f.kill
		}
		stay := f.between(0, 3*time.Second)
		p := f.start(f.journal)
		f.await(p, `msg=assigned`)
		time.Sleep(stay)
		leave(p)
	},
	"broker killed": func(f *faultRun) {
		pause := f.between(0, 2*time.Second)
		f.broker.Kill()
		f.perhapsKillService()
		time.Sleep(pause)
		f.broker.Restart()
	},
	"broker frozen": func(f *faultRun) {
		pause := f.pause()
		f.broker.Freeze()
		f.perhapsKillService()
		time.Sleep(pause)
		f.broker.Thaw()
	},
	"runs hang":                  (*faultRun).runsHang,
	"state file broken":          (*faultRun).stateBroken,
	"state file changed by both": (*faultRun).stateShared,
	"journal's disk full": func(f *faultRun) {
		i := f.rng.IntN(len(f.services))
		if f.rng.IntN(2) == 0 {
			f.kill(f.services[i])
		} else {
			f.terminate(f.services[i])
		}
		f.processes++
		f.services[i] = watchMemory(f.fullDisk.start(f.T, f.arguments(f.fullDisk.dir)...))
		f.await(f.services[i], `no journal; .*`+f.fullDisk.complaint)
	},
}

// between draws a duration.
func (f *faultRun) between(least, most time.Duration) time.Duration {
	return least + time.Duration(f.rng.Int64N(int64(most-least)))
}

// pause draws how long something is frozen. One pause in three is longer than the services'
// sessions of 6 s.
func (f *faultRun) pause() time.Duration {
	d := f.between(time.Second, 3*time.Second)
	if f.rng.IntN(3) == 0 {
		d += 7 * time.Second
	}
	f.remark("for %v", d.Round(time.Millisecond))
	return d
}

// perhapsKillService kills and restarts a service one time in three, so that it starts without a
// broker.
func (f *faultRun) perhapsKillService() {
	if f.rng.IntN(3) == 0 {
		f.count("service killed")
		i := f.rng.IntN(len(f.services))
		f.kill(f.services[i])
		f.services[i] = f.start(f.journal)
	}
}

// A fullDisk is a folder in which nothing can be written.
type fullDisk struct {
	dir       string
	mounted   bool
	complaint string // the error of a write
}

const mountFull = `mount -t tmpfs -o size=16k,mode=700 none "$0" && ! head -c 16385 /dev/zero >"$0/full" 2>/dev/null`

// newFullDisk returns a file system without free space, which exists in the namespace of the
// process that is started on it. If the system allows no namespace, it returns a folder that cannot
// be made.
func newFullDisk(t *testing.T) fullDisk {
	dir := t.TempDir()
	try := exec.Command("sh", "-c", mountFull, dir)
	isolateUser(try, syscall.CLONE_NEWNS)
	if out, err := try.CombinedOutput(); err != nil {
		t.Logf("no full disk, but a path through a file: %v %s", err, out)
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return fullDisk{filepath.Join(file, "journal"), false, "not a directory"}
	}
	return fullDisk{dir, true, "no space left on device"}
}

func (d fullDisk) start(t *testing.T, args ...string) *process {
	t.Helper()
	return startCommand(t, d.command(args...))
}

func (d fullDisk) command(args ...string) *exec.Cmd {
	cmd := program(args...)
	if d.mounted {
		cmd.Args = append([]string{"sh", "-c", mountFull + ` && exec "$@"`, d.dir, cmd.Path}, args...)
		cmd.Path = "/bin/sh"
		isolateUser(cmd, syscall.CLONE_NEWNS)
	}
	return cmd
}
