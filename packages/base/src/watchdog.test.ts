import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'

const LIMIT = { timeout: 15_000, interval: 50 }
const space: { dir: string; children: ChildProcess[] } = { dir: '', children: [] }
beforeEach(() => {
  space.dir = mkdtempSync(join(tmpdir(), 'roost-watchdog-'))
})
afterEach(() => {
  for (const child of space.children.splice(0)) child.kill('SIGKILL')
  rmSync(space.dir, { recursive: true })
})

/** A program that runs `body` once it is told to, under a watchdog of short patience. */
function program(body: string) {
  const logFile = join(space.dir, 'log')
  const text = `
    import { createLogger } from '${import.meta.dirname}/log.ts'
    import { startWatchdog } from '${import.meta.dirname}/watchdog.ts'
    const logFile = '${logFile}'
    const log = createLogger({ program: 'trial', file: logFile })
    startWatchdog({ program: 'trial', log, logFile, stackAfterMs: 500, spinMsMax: 5000, blockedMsMax: 60_000 })
    function spin(ms) { const end = Date.now() + ms; while (Date.now() < end); }
    function wait(ms) { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms) }
    process.stdin.on('data', () => { ${body}; console.log('done') })
    setTimeout(() => console.log('ready'), 700)
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  space.children.push(child)
  let output = ''
  child.stdout.on('data', (data) => {
    output += data
  })
  const said = (what: string) => vi.waitFor(() => expect(output).toContain(what), LIMIT)
  const log = () =>
    readFileSync(logFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  return { child, said, log, go: () => child.stdin.write('go\n') }
}

test('a program that computes without end is ended, and its log says where it was', async () => {
  const { child, said, log, go } = program('spin(60_000)')
  await said('ready')
  go()
  await vi.waitFor(() => expect(child.signalCode).toBe('SIGKILL'), LIMIT)
  const lines = log()
  expect(lines.at(-1)).toMatchObject({ level: 'error', program: 'trial' })
  expect(lines.at(-1).ms).toBeGreaterThanOrEqual(1500)
  const stack = lines.find((line) => line.running)
  expect(stack.running[0]).toContain('spin')
}, 30_000)

test('a short stall is logged with its length, and the program goes on', async () => {
  const { said, log, go } = program('spin(400)')
  await said('ready')
  go()
  await said('done')
  await vi.waitFor(() => {
    const line = log().find(({ message }) => message === 'the event loop stalled')
    expect(line.ms).toBeGreaterThan(250)
    expect(line.cpuMs).toBeGreaterThan(100)
  }, LIMIT)
}, 30_000)

test('what waits is not ended as soon as what computes', async () => {
  const { said, log, go } = program('wait(3000)')
  await said('ready')
  go()
  await said('done')
  await vi.waitFor(
    () =>
      expect(
        log()
          .map(({ message }) => message)
          .join(),
      ).toContain('held up'),
    LIMIT,
  )
}, 30_000)

test('a program that was stopped from outside has not stalled', async () => {
  const { child, said, log, go } = program('spin(300)')
  await said('ready')
  process.kill(child.pid as number, 'SIGSTOP')
  // Longer than what a stall may last here: nothing can be waited for in a program that is stopped.
  const untilMs = Date.now() + 3000
  await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(untilMs), LIMIT)
  process.kill(child.pid as number, 'SIGCONT')
  go()
  await said('done')
  expect(log().filter(({ level }) => level === 'error')).toEqual([])
}, 30_000)
