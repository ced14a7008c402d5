package main

import (
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"

	"inceptor/internal/host"
	"inceptor/savedmodel"
	"inceptor/service"
)

type versionCmd struct {
	noSettings

	TensorFlow service.TensorFlow `embed:"" prefix:"tensorflow."`
}

func (c *versionCmd) Run(a *app) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "inceptor\t%s\n", version)
	fmt.Fprintf(w, "Go\t%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(w, "processors\t%d\n", runtime.NumCPU())
	fmt.Fprintf(w, "features\t%s\n", strings.Join(cpuFeatures(), " "))
	err := savedmodel.OpenLibrary(c.TensorFlow.Library)
	if err == nil {
		fmt.Fprintf(w, "TensorFlow\t%s (%s)\n", savedmodel.LibraryVersion(), savedmodel.LibraryPath())
	} else {
		fmt.Fprintf(w, "TensorFlow\t%v\n", err)
	}
	return w.Flush()
}

// cpuFeatures lists the processor's features that TensorFlow's kernels use.
func cpuFeatures() []string {
	if have := host.ProcessorFeatures(); len(have) > 0 {
		return have
	}
	return []string{"none of those that are checked"}
}
