// Package browser tests the service's page in a real browser, Chromium. It is a module of its own,
// so that the program does not depend on the client of the browser.
package browser
