import { type ChildProcess, spawn } from 'node:child_process'
import { afterEach, expect, test, vi } from 'vitest'

const LIMIT = { timeout: 15_000, interval: 20 }
const children: ChildProcess[] = []
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

function program(body: string, deadlineMs = 8000) {
  const text = `
    import { createLogger } from '${import.meta.dirname}/log.ts'
    import { untilShutdown } from '${import.meta.dirname}/shutdown.ts'
    const closers = []
    const never = new Promise(() => {})
    const say = (word) => () => console.error(word)
    untilShutdown(createLogger({ program: 'trial' }), closers, ${deadlineMs})
    setInterval(() => {}, 1000)
    ${body}
    console.log('ready')
  `
  const child = spawn(process.execPath, ['--input-type=module', '-e', text])
  children.push(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      output += data
    })
  const said = (what: string) => vi.waitFor(() => expect(output).toContain(what), LIMIT)
  const ended = async () => {
    await vi.waitFor(() => expect(child.exitCode).not.toBe(null), LIMIT)
    return { code: child.exitCode, output }
  }
  return { child, said, ended }
}

test('closers run in reverse order, and one that hangs or throws does not keep the others', async () => {
  const { child, said, ended } = program(
    `closers.push(say('first'), () => never, () => { throw new Error('broken') }, say('last'))`,
    1000,
  )
  await said('ready')
  child.kill('SIGTERM')
  const { code, output } = await ended()
  expect(code).toBe(0)
  expect(output.indexOf('last')).toBeLessThan(output.indexOf('broken'))
  expect(output.indexOf('no end after 500 ms')).toBeLessThan(output.indexOf('first'))
})

test('what does not stop in time ends with 1', async () => {
  const { child, said, ended } = program(`closers.push(() => never, () => never, () => never)`, 400)
  await said('ready')
  child.kill('SIGTERM')
  expect(await ended()).toMatchObject({
    code: 1,
    output: expect.stringContaining('not stopped in time'),
  })
})

test('a second signal ends it at once', async () => {
  const { child, said, ended } = program(`closers.push(() => never)`)
  await said('ready')
  child.kill('SIGTERM')
  await said('stopping')
  child.kill('SIGTERM')
  expect(await ended()).toMatchObject({ code: 1, output: expect.stringContaining('once more') })
})

test.each([
  ['an exception', `setTimeout(() => { throw new Error('boom') }, 10)`],
  ['a rejection', `setTimeout(() => { void Promise.reject(new Error('boom')) }, 10)`],
])('%s that nobody caught is logged and ends it with 1', async (_what, body) => {
  const { code, output } = await program(body).ended()
  expect(code).toBe(1)
  expect(output).toMatch(/"message":"uncaught".*boom/)
})
