"""The page's look: one style sheet, light and dark by the reader's preference, printable."""

CSS = """
:root {
  --paper: #fdfdfb; --panel: #f4f5f2; --ink: #1c2024; --quiet: #5d666e; --rule: #d9dde1; --accent: #0b5f94;
  --warn: #8a4b00; --warnbg: #fff3df; --bar: #0072b222; color-scheme: light dark;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", "DejaVu Serif", Georgia, serif;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --panel: #1c2125; --ink: #e6e8ea; --quiet: #9aa4ad; --rule: #343b42; --accent: #7cc0ee;
    --warn: #ffc879; --warnbg: #33270f; --bar: #56b4e940;
  }
}
* { box-sizing: border-box }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 2.2rem 1.5rem 5rem }
h1, h2 { font-family: var(--serif); line-height: 1.2; font-weight: 600; letter-spacing: -.01em; text-wrap: balance }
h1 { font-size: 2.1rem; margin: .2rem 0 .3rem }
h2 { font-size: 1.42rem; margin: 3.4rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--rule) }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem }
p, li { max-width: 76ch }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: 2px }
.kicker { color: var(--quiet); font-size: .9rem; margin: 0 }
.warning {
  max-width: none; background: var(--warnbg); color: var(--warn); border: 1px solid currentColor; border-radius: 6px;
  padding: .55rem .9rem; margin: 0 0 1.6rem; font-weight: 600;
}
.warning span { font-weight: 400 }
.finding {
  font: 1.55rem/1.35 var(--serif); margin: 1.6rem 0 .6rem; padding-left: 1rem; border-left: 4px solid var(--accent);
  max-width: 46ch; text-wrap: balance;
}
.detail, .note, figcaption { color: var(--quiet); font-size: .9rem; max-width: 88ch }
nav { font-size: .9rem; margin: 1.6rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem }
.scroll { overflow-x: auto }
table {
  border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; margin: .6rem 0; min-width: 70%;
}
th, td { padding: .3rem .9rem .3rem .4rem; text-align: right; white-space: nowrap }
th { font-weight: 600; color: var(--quiet); font-size: .82rem; white-space: pre-line }
td.t, th.t { text-align: left }
thead th { border-bottom: 1.5px solid var(--ink); vertical-align: bottom }
tbody tr { border-bottom: 1px solid var(--rule) }
tbody th.group { text-align: left; color: var(--ink); padding-top: 1.1rem; font-size: .9rem }
td.best { font-weight: 700 }
td a { color: inherit; text-decoration-color: var(--rule) }
td.bar { background: linear-gradient(90deg, var(--bar) calc(var(--v) * 1%), transparent 0) }
td i { font-style: normal }
tr:target { background: var(--warnbg) }
figure { margin: 1.4rem 0 1.8rem }
figure svg { width: 100%; height: auto; max-width: var(--w, 100%); display: block }
figure svg text { font-family: inherit !important }
svg image, img.map { image-rendering: pixelated }
.strip {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .5rem .7rem; margin: .3rem 0 1.2rem;
}
.strip figure { margin: 0 }
.strip img { width: 100%; display: block; border-radius: 3px }
.strip figcaption { font-size: .78rem; line-height: 1.3; padding-top: .25rem }
.dates { grid-template-columns: repeat(var(--n), minmax(0, 1fr)) }
.legend {
  display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .85rem; margin: .6rem 0 1rem; padding: 0;
  list-style: none;
}
.legend i {
  display: inline-block; width: .85em; height: .85em; border-radius: 2px; margin-right: .4em; vertical-align: -.08em;
}
.matrices { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 1.2rem }
.matrices figure { margin: 0 }
code { font: .85em ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace }
@media print { nav { display: none } h2 { break-after: avoid } figure, tr { break-inside: avoid } }
"""
