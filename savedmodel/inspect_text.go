package savedmodel

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// shownVariables is how many variables WriteText lists.
const shownVariables = 5

// WriteText writes the Info for a person. It lists everything but the smaller variables.
func (i *Info) WriteText(w io.Writer) error {
	var out bytes.Buffer
	i.writeHead(&out)
	for _, g := range i.Graphs {
		g.writeText(&out)
	}
	i.writeVariables(&out)
	i.writeFiles(&out)
	_, err := w.Write(out.Bytes())
	return err
}

// WriteVariables writes a line for each variable, sorted by key.
func (i *Info) WriteVariables(w io.Writer) error {
	var out bytes.Buffer
	variableTable(&out, "", i.Variables)
	_, err := w.Write(out.Bytes())
	return err
}

func (i *Info) writeHead(out *bytes.Buffer) {
	fmt.Fprintf(out, "version    %s\n", printable(i.Dir))
	if i.Complete {
		fmt.Fprintln(out, "complete   yes")
	} else {
		fmt.Fprintln(out, "complete   NO")
		for _, m := range i.Missing {
			fmt.Fprintf(out, "           %s\n", printable(m))
		}
	}
	if i.Digest != "" {
		fmt.Fprintf(out, "digest     %s\n", i.Digest)
	}
	fmt.Fprintf(out, "graph file %s\n", byteCount(i.GraphBytes))
}

func (g MetaGraph) writeText(out *bytes.Buffer) {
	tags := make([]string, len(g.Tags))
	for i, t := range g.Tags {
		tags[i] = printable(t)
	}
	fmt.Fprintf(out, "\ngraph      %s: written by TensorFlow %s, %s, %s, %s\n", cmp.Or(strings.Join(tags, ", "), "no tags"),
		printable(g.TensorFlow), count(g.Nodes, "node"), count(g.Functions, "function"), count(len(g.Ops), "kind")+" of operation")
	for _, key := range slices.Sorted(maps.Keys(g.Signatures)) {
		s := g.Signatures[key]
		fmt.Fprintf(out, "  signature %s", printable(key))
		if s.Method != "" {
			fmt.Fprintf(out, " (%s)", printable(s.Method))
		}
		fmt.Fprintln(out)
		table(out, func(t io.Writer) {
			tensorRows(t, "in", s.Inputs)
			tensorRows(t, "out", s.Outputs)
		})
	}
}

func tensorRows(t io.Writer, direction string, infos map[string]TensorInfo) {
	for _, key := range slices.Sorted(maps.Keys(infos)) {
		i := infos[key]
		name := i.Name
		if i.Encoding != "" {
			name = i.Encoding
		}
		fmt.Fprintf(t, "    %s\t%s\t%v\t%v\t%s\n", direction, printable(key), i.DType, i.Shape, printable(name))
	}
}

func (i *Info) writeVariables(out *bytes.Buffer) {
	fmt.Fprintf(out, "\nvariables  %d, %s in %s\n", len(i.Variables), byteCount(i.VariableBytes), count(len(i.Shards), "shard"))
	largest := slices.Clone(i.Variables)
	slices.SortStableFunc(largest, func(a, b Variable) int { return cmp.Compare(b.Bytes, a.Bytes) })
	hidden := max(len(largest)-shownVariables, 0)
	variableTable(out, "  ", largest[:len(largest)-hidden])
	if hidden > 0 {
		fmt.Fprintf(out, "  and %d smaller\n", hidden)
	}
}

func variableTable(out *bytes.Buffer, indent string, variables []Variable) {
	table(out, func(t io.Writer) {
		for _, v := range variables {
			fmt.Fprintf(t, "%s%s\t%v\t%v\t%s\n", indent, printable(v.Name), v.DType, v.Shape, byteCount(v.Bytes))
		}
	})
}

func (i *Info) writeFiles(out *bytes.Buffer) {
	if len(i.Assets) > 0 {
		fmt.Fprintln(out, "\nassets")
		table(out, func(t io.Writer) {
			for _, a := range i.Assets {
				tensor := "not named by a graph"
				if a.Tensor != "" {
					tensor = printable(a.Tensor)
				}
				fmt.Fprintf(t, "  %s\t%s\t%s\n", printable(strings.TrimPrefix(a.Path, assetsDir+"/")), byteCount(a.Size), tensor)
			}
		})
	}
	if len(i.Extra) > 0 {
		fmt.Fprintln(out, "\nassets.extra")
		table(out, func(t io.Writer) {
			for _, f := range i.Extra {
				fmt.Fprintf(t, "  %s\t%s\n", printable(strings.TrimPrefix(f.Path, extraDir+"/")), byteCount(f.Size))
			}
		})
	}
	if i.Warmup != nil {
		fmt.Fprintf(out, "\nwarm-up    %s", count(i.Warmup.Records, "record"))
		for n, key := range slices.Sorted(maps.Keys(i.Warmup.Signatures)) {
			sep := ", "
			if n == 0 {
				sep = ": "
			}
			fmt.Fprintf(out, "%s%d to %s", sep, i.Warmup.Signatures[key], printable(key))
		}
		if i.Warmup.Problem != "" {
			fmt.Fprintf(out, "; TensorFlow Serving would refuse it: %s", printable(i.Warmup.Problem))
		}
		fmt.Fprintln(out)
	}
}

// table writes rows with aligned columns. Each cell ends with a tab.
func table(out *bytes.Buffer, rows func(t io.Writer)) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows(t)
	_ = t.Flush() // a bytes.Buffer never fails
}

// printable quotes a name that would upset a terminal or a table. A model's names come from
// outside.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.ToValidUTF8(s, "") != s {
		return strconv.Quote(s)
	}
	return s
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// byteCount formats a size in the largest decimal unit that gives a number of at least 1.
func byteCount(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1000, "kMGTPE"
	for f >= 999.95 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	return fmt.Sprintf("%.1f %cB", f, units[0])
}
