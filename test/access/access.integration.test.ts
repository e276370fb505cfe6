import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { JSON_SHAPES } from '../../packages/cli/src/json-shapes.ts'
import { type AccessRig, raiseAccess } from './rig.ts'

const LIMIT = { timeout: 20_000, interval: 50 }
/** What a command printed with --json, which has the shape that scripts are promised. */
const answer = (words: string, printed: Buffer) => {
  const value = JSON.parse(printed.toString())
  expect(JSON_SHAPES[words]?.safeParse(value).error).toBeUndefined()
  return value
}
const open: { rig: AccessRig | null; dir: string } = { rig: null, dir: '' }
const rig = (): AccessRig => {
  if (open.rig === null) throw new Error('no rig')
  return open.rig
}

beforeAll(async () => {
  open.rig = await raiseAccess()
})
afterAll(async () => {
  await open.rig?.close()
})
beforeEach(() => {
  open.dir = mkdtempSync(join(tmpdir(), 'roost-access-'))
})
afterEach(async () => {
  rmSync(open.dir, { recursive: true, force: true })
  await nothingLeft()
})

/** Neither processes nor pipes of any program that was started. */
const nothingLeft = () =>
  vi.waitFor(() => expect([rig().strangers(), rig().traces()]).toEqual([[], []]), LIMIT)

test('1 MB goes through a program and back, and its exit code is the command line’s', async () => {
  const sent = randomBytes(1_000_000)
  const one = rig().person()
  one.stdin.end(sent)
  expect(await one.run('machine', 'exec', rig().machine, 'cat')).toBe(0)
  expect(one.out().equals(sent)).toBe(true)

  const two = rig().person()
  two.stdin.end()
  const words = ['sh', '-c', 'echo out; echo err >&2; echo "$GREETING"; exit 42']
  expect(await two.run('machine', 'exec', rig().machine, '--', ...words)).toBe(42)
  expect([two.out().toString(), two.err()]).toEqual(["out\nit's set\n", 'err\n'])
})

test('a shell with a terminal: its size, a change of it, Ctrl-C, and the exit code', async () => {
  const one = rig().person({ terminal: { columns: 91, rows: 33 } })
  const running = one.run('ssh', 'console')
  const says = (text: string | RegExp) =>
    vi.waitFor(() => expect(one.out().toString()).toMatch(text), LIMIT)
  one.stdin.write('stty size; id -u\n')
  await says(/33 91\r\n0\r\n/)
  one.resize(120, 40)
  await vi.waitFor(async () => {
    one.stdin.write('stty size\n')
    expect(one.out().toString()).toContain('40 120')
  }, LIMIT)
  one.stdin.write('sleep 1000\n')
  await vi.waitFor(() => expect(rig().strangers()).toContain('sleep 1000'), LIMIT)
  one.stdin.write('\x03')
  await vi.waitFor(() => expect(rig().strangers()).not.toContain('sleep 1000'), LIMIT)
  one.stdin.write('echo code=$?; exit 9\n')
  await says('code=130')
  expect(await running).toBe(9)
})

test('Ctrl-C without a terminal goes to the program', async () => {
  const one = rig().person()
  const running = one.run('machine', 'exec', rig().machine, 'sleep 1000')
  await vi.waitFor(() => expect(rig().strangers()).toContain('sleep 1000'), LIMIT)
  one.interrupt()
  expect(await running).toBe(130)
})

test('of a client that is killed nothing goes on', async () => {
  const running = () =>
    rig()
      .strangers()
      .filter((words) => words === 'sleep 1000').length
  const clients = [
    rig().process('machine', 'exec', rig().machine, 'sleep 1000'),
    rig().process('ssh', 'console', '-C', 'sleep 1000'),
  ]
  let said = ''
  for (const { stderr } of clients) stderr?.on('data', (text) => (said += text))
  try {
    await vi.waitFor(() => expect([running(), said]).toEqual([2, '']), LIMIT)
  } finally {
    for (const client of clients) client.kill('SIGKILL')
  }
  await nothingLeft()
})

test('a hundred at once', { timeout: 240_000 }, async () => {
  const codes = await Promise.all(
    Array.from({ length: 100 }, async (_, n) => {
      const one = rig().person()
      one.stdin.end(`number ${n}`)
      const code = await one.run('machine', 'exec', rig().machine, 'cat')
      return [code, one.out().toString(), one.err()]
    }),
  )
  expect(codes).toEqual(Array.from({ length: 100 }, (_, n) => [0, `number ${n}`, '']))
})

test('an agent that is restarted ends what it had started, and says so', async () => {
  const one = rig().person()
  const running = one.run('machine', 'exec', rig().machine, 'sleep 1000')
  await vi.waitFor(() => expect(rig().strangers()).toContain('sleep 1000'), LIMIT)
  await rig().restartAgent()
  expect(await running).toBe(1)
  expect(one.err()).toContain('host')
  await nothingLeft()
  const two = rig().person()
  two.stdin.end()
  expect(await two.run('machine', 'exec', rig().machine, 'true')).toBe(0)
})

test('what an agent that was killed has left is ended by the next', async () => {
  const one = rig().person()
  const running = one.run('machine', 'exec', rig().machine, 'sh -c "sleep 1000 & sleep 2000"')
  await vi.waitFor(() => expect(rig().strangers()).toContain('sleep 1000'), LIMIT)
  expect(rig().traces()).toHaveLength(1)
  // It knows nothing of the first one's sessions, as after kill -9.
  const next = await rig().host.openAgent()
  await next.close()
  await nothingLeft()
  expect(await running).toBe(137)
})

test('as another user, with the same environment and its own home; who is nobody is refused', async () => {
  const as = async (user: string) => {
    const one = rig().person()
    one.stdin.end()
    const words = ['--', 'sh', '-c', 'echo "$(id -u):$(id -g) $HOME $GREETING"']
    const code = await one.run('machine', 'exec', rig().machine, '-u', user, ...words)
    return [code, one.out().toString(), one.err()]
  }
  expect(await as('app')).toEqual([0, "1000:1001 /home/app it's set\n", ''])
  expect(await as('root')).toEqual([0, "0:0 /root it's set\n", ''])
  expect(await as('4321:99')).toEqual([0, "4321:99 / it's set\n", ''])
  const [code, , complaint] = await as('nobody-here')
  expect([code, complaint]).toEqual([1, expect.stringContaining('user "nobody-here" is not in')])
})

test('a server that goes away ends its sessions, and says so', async () => {
  const one = rig().person()
  const running = one.run('machine', 'exec', rig().machine, 'sh -c "sleep 1000 & sleep 2000"')
  await vi.waitFor(() => expect(rig().strangers()).toContain('sleep 1000'), LIMIT)
  await rig().stopServer()
  expect(await running).toBe(3)
  expect(one.err()).toContain('the server is going away')
  await nothingLeft()
  await rig().startServer()
})

test('asked and answered at once: split as a shell would, cut where it is too much, killed when it is late', async () => {
  const one = rig().person()
  expect(await one.run('machine', 'exec', rig().machine, 'sh -c "echo $0; exit 3"', '--json')).toBe(
    0,
  )
  expect(JSON.parse(one.out().toString())).toMatchObject({ exit_code: 3, stdout: 'sh\n' })
  const much = rig().person()
  await much.run('machine', 'exec', rig().machine, 'seq 1 300000', '--json')
  const { stdout, stderr, stdout_cut } = JSON.parse(much.out().toString())
  expect(stdout).toHaveLength(1_000_000)
  expect(stdout_cut).toBeGreaterThan(900_000)
  expect(stderr).toContain('stdout is cut after 1000000 bytes')
  const late = rig().person()
  expect(await late.run('machine', 'exec', rig().machine, 'sleep 1000', '--timeout', '1')).toBe(1)
  expect(late.err()).toContain('did not end within 1 s')
})

test('who may not, may not; who did is written down', async () => {
  const reader = rig().person({ token: 'looks' })
  expect(await reader.run('machine', 'exec', rig().machine, 'true')).toBe(4)
  expect(reader.err()).toContain('machine:exec')
  expect(await rig().person({ token: 'looks' }).run('proxy', '0:8080')).toBe(4)
  const deployer = rig().person({ token: 'ci' })
  deployer.stdin.end()
  expect(await deployer.run('machine', 'exec', rig().machine, 'sh -c "exit 5"')).toBe(5)
  const log = rig().person()
  expect(await log.run('ssh', 'log', '--json')).toBe(0)
  const [newest] = JSON.parse(log.out().toString())
  expect(newest).toMatchObject({
    kind: 'program',
    token: 'ci',
    machine: rig().machine,
    command: "sh -c 'exit 5'",
    exit_code: 5,
    reason: null,
  })
  expect(newest.ended_at).not.toBeNull()
})

test('files go there and back, folders too; nothing here is overwritten, and no link is followed', async () => {
  const person = () => rig().person({ cwd: open.dir })
  const bytes = randomBytes(300_000)
  mkdirSync(join(open.dir, 'site/inner'), { recursive: true })
  writeFileSync(join(open.dir, 'site/inner/big'), bytes, { mode: 0o640 })
  writeFileSync(join(open.dir, 'site/empty'), '')
  symlinkSync('/etc/passwd', join(open.dir, 'site/link'))
  const put = person()
  expect(await put.run('sftp', 'put', '-r', 'site', '/home/app/site', '--json')).toBe(0)
  expect(answer('sftp put', put.out())).toMatchObject({ files: 2, bytes: 300_000, left_away: 1 })
  const again = person()
  expect(await again.run('sftp', 'put', 'site/empty', '/home/app/site/empty')).toBe(1)
  expect(again.err()).toContain('there already')

  const list = person()
  expect(await list.run('sftp', 'find', '/home/app/site')).toBe(0)
  expect(list.out().toString().split('\n').sort()).toEqual(
    [
      '',
      '/home/app/site',
      '/home/app/site/empty',
      '/home/app/site/inner',
      '/home/app/site/inner/big',
    ].sort(),
  )
  const got = person()
  expect(await got.run('sftp', 'get', '-r', '/home/app/site', 'back', '--json')).toBe(0)
  expect(answer('sftp get', got.out())).toMatchObject({ files: 2, bytes: 300_000 })
  expect(readFileSync(join(open.dir, 'back/inner/big')).equals(bytes)).toBe(true)
  expect(statSync(join(open.dir, 'back/inner/big')).mode & 0o777).toBe(0o640)
  // Into a folder that is there, under its own name; and not a second time.
  expect(await person().run('sftp', 'get', '-r', '/home/app/site', 'back')).toBe(0)
  const twice = person()
  expect(await twice.run('sftp', 'get', '-r', '/home/app/site', 'back')).toBe(1)
  expect(twice.err()).toContain('is there already')
  const folder = person()
  expect(await folder.run('sftp', 'get', '/home/app/site', 'other')).toBe(1)
  expect(existsSync(join(open.dir, 'other'))).toBe(false)
  const both = ['one', 'one'].map((local) =>
    person().run('sftp', 'get', '/home/app/site/inner/big', local),
  )
  expect((await Promise.all(both)).sort()).toEqual([0, 1])
  expect(readFileSync(join(open.dir, 'one')).equals(bytes)).toBe(true)
  expect(readdirSync(open.dir).sort()).toEqual(['back', 'one', 'site'])
  const missing = person()
  expect(await missing.run('sftp', 'get', '/no/such', 'other')).toBe(1)
  expect(missing.err()).toContain('No such file')
})

test('a port here is one of the machine: many at once, each direction by itself, and a clear word where nothing listens', async () => {
  const one = rig().person()
  const running = one.run('proxy', '0:8080', 'shop.internal', '--json')
  const { port } = await vi.waitFor(() => answer('proxy', one.out()), LIMIT)
  const fetchOnce = async () => {
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    // The request is ended before the answer has begun.
    socket.end('GET /hello HTTP/1.0\r\n\r\n')
    let text = ''
    for await (const chunk of socket) text += chunk
    return text
  }
  // The httpd of busybox lets nine wait, and resets some of a greater burst.
  for (let round = 0; round < 7; round++) {
    const answers = await Promise.all(Array.from({ length: 8 }, fetchOnce))
    for (const text of answers) expect(text).toMatch(/200 OK[\s\S]*\r\n\r\nhello\n$/)
  }
  one.interrupt()
  expect(await running).toBe(0)

  const wrong = rig().person()
  const proxy = wrong.run('proxy', '0:9999', rig().machine, '--json')
  const other = await vi.waitFor(() => JSON.parse(wrong.out().toString()).port as number, LIMIT)
  const socket = connect({ host: '127.0.0.1', port: other })
  await once(socket, 'close')
  await vi.waitFor(
    () => expect(wrong.err()).toMatch(/nothing listens on port 9999 .*it listens on .*:8080/),
    LIMIT,
  )
  wrong.interrupt()
  await proxy
})
