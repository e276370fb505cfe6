import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type AccessRig, raiseAccess } from './rig.ts'

/** Into one container of a machine that has several: each has its own files and environment, and all have one network. */
const LIMIT = { timeout: 20_000, interval: 50 }
const CONTAINERS = ['helper', 'app', 'db']
const open: { rig: AccessRig | null } = { rig: null }
const rig = (): AccessRig => {
  if (open.rig === null) throw new Error('no rig')
  return open.rig
}

beforeAll(async () => {
  open.rig = await raiseAccess({ containers: CONTAINERS })
})
afterAll(async () => {
  await open.rig?.close()
})

async function runs(...argv: string[]): Promise<[number, string, string]> {
  const one = rig().person()
  one.stdin.end()
  const code = await one.run(...argv)
  return [code, one.out().toString(), one.err()]
}
const exec = (...argv: string[]) => runs('machine', 'exec', rig().machine, ...argv)

test('a program runs in the container that is named, with its files and environment; without a name in that called app', async () => {
  const look = ['--', 'sh', '-c', 'cat /name; echo "$GREETING"']
  await vi.waitFor(
    async () => expect(await exec(...look)).toEqual([0, 'app\nfrom app\n', '']),
    LIMIT,
  )
  for (const name of CONTAINERS)
    await vi.waitFor(
      async () =>
        expect(await exec('--container', name, ...look)).toEqual([
          0,
          `${name}\nfrom ${name}\n`,
          '',
        ]),
      LIMIT,
    )
  const [code, out] = await exec(
    '--container',
    'db',
    '--json',
    '--',
    'sh',
    '-c',
    'cat /name; exit 7',
  )
  expect([code, JSON.parse(out)]).toEqual([
    0,
    { exit_code: 7, stdout: 'db\n', stderr: '', stdout_cut: 0, stderr_cut: 0 },
  ])
})

test('one that is not there is refused, with those that are', async () => {
  const [code, , err] = await exec('--container', 'redis', 'true')
  expect(code).toBe(1)
  expect(err).toContain('has no container "redis"; it has app, db, helper')
  const [other] = await exec('--container', '../db', 'true')
  expect(other).toBe(1)
})

test('a shell with a terminal in one of them', async () => {
  const one = rig().person({ terminal: { columns: 91, rows: 33 } })
  const running = one.run('ssh', 'console', '--container', 'db')
  const says = (text: string | RegExp) =>
    vi.waitFor(() => expect(one.out().toString()).toMatch(text), LIMIT)
  one.stdin.write('stty size; cat /name; echo "$GREETING"\n')
  await says(/33 91\r\ndb\r\nfrom db\r\n/)
  one.stdin.write('exit 9\n')
  expect(await running).toBe(9)
  const [, log] = await runs('ssh', 'log', '--json')
  expect(JSON.parse(log)[0]).toMatchObject({ container: 'db', exit_code: 9, terminal: true })
})

test('they hear each other by name, and files go into the one that is named', async () => {
  const served = 'echo hello > /home/app/hello; httpd -p 8080 -h /home/app'
  expect((await exec('--container', 'db', '--', 'sh', '-c', served))[0]).toBe(0)
  const fetch = ['wget', '-q', '-O', '-', 'http://db:8080/hello']
  await vi.waitFor(
    async () => expect((await exec('--container', 'app', '--', ...fetch))[1]).toBe('hello\n'),
    LIMIT,
  )
  const dir = mkdtempSync(join(tmpdir(), 'roost-access-'))
  try {
    const one = rig().person({ cwd: dir })
    expect(await one.run('sftp', 'get', '/name', '--container', 'helper')).toBe(0)
    expect(readFileSync(join(dir, 'name'), 'utf8')).toBe('helper\n')
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})
