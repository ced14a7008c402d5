package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"inceptor/model"
)

const (
	tableColumns = 100 // of the notes under a version, at most
	digestDigits = 12
)

// printVersions prints a line for each version, and below it what is to be said of it.
func printVersions(out io.Writer, versions []model.Status) error {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tSTATE\tLABEL\tRUNS IN\tSINCE\tSIZE\tDIGEST")
	for _, v := range versions {
		number, since, size := strconv.FormatInt(v.Version, 10), "", ""
		if v.Chosen {
			number += "*"
		}
		if !v.Since.IsZero() {
			since = v.Since.Local().Format(time.DateTime)
		}
		if v.Bytes > 0 {
			size = fmt.Sprintf("%.1f MiB", float64(v.Bytes)/(1<<20))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", number, printable(v.State), printable(v.Label),
			printable(strings.TrimSpace(v.Precision+" "+v.Kernels)), since, size, shortDigest(v.Digest))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")
	for i, line := range lines {
		if _, err := fmt.Fprintln(out, strings.TrimRight(line, " ")); err != nil {
			return err
		}
		if i == 0 {
			continue // the headings
		}
		for _, note := range notes(versions[i-1]) {
			if _, err := io.WriteString(out, wrapped(printable(note), "    ", tableColumns)); err != nil {
				return err
			}
		}
	}
	return nil
}

// shortDigest returns the first digits of a digest, without its kind.
func shortDigest(digest string) string {
	_, digits, ok := strings.Cut(digest, ":")
	if !ok {
		digits = digest
	}
	return printable(digits[:min(len(digits), digestDigits)])
}

// notes says what no column holds.
func notes(v model.Status) (all []string) {
	switch {
	case v.Gate != "":
		all = append(all, v.Gate+": "+v.Reason)
	case v.Reason != "":
		all = append(all, v.Reason)
	}
	if !v.Retry.IsZero() {
		all = append(all, "tried again at "+v.Retry.Local().Format(time.TimeOnly))
	}
	if !v.Probation.IsZero() {
		all = append(all, "on probation until "+v.Probation.Local().Format(time.TimeOnly))
	}
	if v.Trying != "" {
		all = append(all, v.Trying)
	}
	if v.WhyPrecision != "" {
		all = append(all, v.Precision+" since "+v.WhyPrecision)
	}
	if v.Assumed != "" {
		all = append(all, v.Assumed)
	}
	return all
}

// wrapped breaks text at spaces into lines of at most so many bytes, each with the indent. A longer
// word has a line of its own.
func wrapped(text, indent string, columns int) string {
	var b strings.Builder
	line := indent
	for word := range strings.FieldsSeq(text) {
		if line != indent && len(line)+1+len(word) > columns {
			b.WriteString(line + "\n")
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	b.WriteString(line + "\n")
	return b.String()
}
