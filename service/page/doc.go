// Package page serves what a person sees of the service in a browser.
//
// The server renders HTML, and the browser swaps it. GET / renders all sections: that is the whole
// page for a browser without JavaScript. GET /events renders the same sections once a second while
// somebody looks, and sends those that have changed, as server-sent events; page.js puts each in
// its place, and draws the history with uPlot. Everything is in the program: the page loads nothing
// from elsewhere.
package page
