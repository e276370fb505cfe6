import { copyFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../terminal.ts'

/**
 * A copy of an example whose programs also tick: ten times a second each tells what its clocks say, over a connection that it opens
 * once to `at` (`address:port`). Each in its own language, by its usual timer.
 */
export function copyWithProbe(example: string, folder: string, at: string): void {
  cpSync(join(ROOT, 'examples', example), folder, { recursive: true })
  const inside = (file: string) => join(folder, file)
  const probe = (file: string) => join(import.meta.dirname, file)
  const change = (file: string, by: (text: string) => string) => {
    const before = readFileSync(inside(file), 'utf8')
    const after = by(before)
    if (after === before) throw new Error(`${example}/${file} is not as it was: nothing to change`)
    writeFileSync(inside(file), after)
  }
  const more = (file: string, text: string) => change(file, (before) => `${before}${text}`)
  const read = (file: string) => readFileSync(probe(file), 'utf8')
  more('Dockerfile', `\nENV PROBE_AT=${at}\n`)
  const changes: Readonly<Record<string, () => void>> = {
    chat: () => more('server.js', read('node.js')),
    sidecar: () => more('server.js', read('node.js')),
    worker() {
      more('web.js', read('node.js'))
      more('worker.js', read('node.js'))
    },
    python: () =>
      change('app.py', (text) =>
        text.replace('server.serve_forever()', `${read('probe.py')}\nserver.serve_forever()`),
      ),
    scratch() {
      copyFileSync(probe('probe.go'), inside('probe.go'))
      change('Dockerfile', (text) => text.replace('main.go ./', 'main.go probe.go ./'))
    },
    elixir() {
      copyFileSync(probe('probe.ex'), inside('lib/probe.ex'))
      change('lib/application.ex', (text) =>
        text.replace('{Rooms.Door, port}', '{Rooms.Door, port},\n      Rooms.Probe'),
      )
    },
    static() {
      copyFileSync(probe('probe.sh'), inside('probe.sh'))
      more('Dockerfile', 'COPY probe.sh /probe.sh\n')
      change('Dockerfile', (text) =>
        text.replace('exec httpd', '(sh /probe.sh 2>&1 &) && exec httpd'),
      )
    },
  }
  const add = changes[example]
  if (add === undefined) throw new Error(`there is no probe for ${example}`)
  add()
}
