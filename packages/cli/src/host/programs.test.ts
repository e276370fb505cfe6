import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { environmentOf, isAlive, killProcesses, processesOf } from './processes.ts'
import { killProgram, pidOf, programsIn, startProgram, stopProgram } from './programs.ts'
import { removeCgroups } from './sweep.ts'

let folder = ''
let owner = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'programs-'))
  owner = `programs-test-${folder.slice(-6)}`
})
afterEach(async () => {
  await killProcesses(marks())
  rmSync(folder, { recursive: true, force: true })
})

const marks = () => ({ owner, netns: [], cgroup: `/${owner}` })
const program = (...argv: [string, ...string[]]) => ({
  name: 'it',
  argv,
  netns: null,
  pidDir: folder,
  logFile: join(folder, 'it.out'),
  owner: `${owner}/host`,
})
const SAYS_SO = 'ROOST_OWNER=$OWNER exec sh -c "echo up; read _; :"'
const running = () => expect.poll(() => pidOf(folder, 'it'), { timeout: 5000 })

test('a program is started again after kill -9, and only once at a time', async () => {
  startProgram(program('sleep', '1000'))
  await running().not.toBeNull()
  const first = pidOf(folder, 'it')
  startProgram(program('sleep', '1000'))
  killProgram(folder, 'it')
  await running().toSatisfy((pid) => pid !== null && pid !== first)
  const sleeping = () => processesOf(marks()).filter(({ command }) => command === 'sleep 1000')
  await expect.poll(sleeping).toHaveLength(1)
  expect(programsIn(folder)).toEqual([
    {
      name: 'it',
      pid: pidOf(folder, 'it'),
      since: expect.stringMatching(/^20\d\d-/),
      ended: { times: 1, soon: 1, code: 137, at: expect.stringMatching(/^20\d\d-/) },
    },
  ])
})

test('a program that ends by itself is started again ever more slowly, and its last words are kept', async () => {
  startProgram(program('sh', '-c', 'echo gone; exit 3'))
  const lives = () =>
    existsSync(join(folder, 'it.out')) ? readFileSync(join(folder, 'it.out'), 'utf8').length / 5 : 0
  await expect.poll(lives, { timeout: 5000 }).toBeGreaterThanOrEqual(3)
  expect(lives()).toBeLessThan(6)
  const ended = () => programsIn(folder)[0]?.ended
  await expect.poll(() => ended()?.soon, { timeout: 5000 }).toBeGreaterThanOrEqual(3)
  expect(ended()?.code).toBe(3)
})

test('a program runs in its own groups, which are made again when somebody removed them', async () => {
  const group = (name: string) => `/roost-${owner}/${name}`
  const one = { memoryMb: 64, pids: 20 }
  const limits = {
    ...one,
    cgroup: group('it'),
    oomScoreAdj: 200,
    others: [{ ...one, cgroup: group('other') }],
  }
  try {
    startProgram({ ...program('sleep', '1000'), limits })
    await running().not.toBeNull()
    const groupsOf = (pid: number | null) => readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    const first = pidOf(folder, 'it')
    await expect.poll(() => groupsOf(first)).toMatch(new RegExp(`(memory|:):${group('it')}$`, 'm'))
    expect(readFileSync(`/proc/${first}/oom_score_adj`, 'utf8').trim()).toBe('200')
    const roots = groupFolders(group('other'))
    expect(roots.length).toBeGreaterThan(0)
    const bound = roots.flatMap((root) =>
      ['memory.limit_in_bytes', 'memory.max'].flatMap((name) =>
        existsSync(join(root, name)) ? readFileSync(join(root, name), 'utf8').trim() : [],
      ),
    )
    expect(bound).toEqual([String(64 * 1_048_576)])
    removeCgroups(group('other'))
    killProgram(folder, 'it')
    await running().toSatisfy((pid) => pid !== null && pid !== first)
    await expect.poll(() => groupFolders(group('other'))).toEqual(roots)
  } finally {
    await stopProgram(folder, 'it')
    await removeGroups()
  }
})

test('a program that takes more memory than it may is ended alone and started again', async () => {
  const cgroup = `/roost-${owner}/it`
  try {
    const eats = 'const all = []; for (;;) all.push(Buffer.alloc(4e6, 1))'
    const limits = { cgroup, memoryMb: 100, pids: 50, oomScoreAdj: 500 }
    startProgram({ ...program(process.execPath, '-e', eats), limits })
    await expect.poll(() => programsIn(folder)[0]?.ended?.code, { timeout: 10_000 }).toBe(137)
  } finally {
    await stopProgram(folder, 'it')
    await removeGroups()
  }
})

test('a program that computes without end is replaced, and another beside it goes on', async () => {
  const watched = `
    import { createLogger, startWatchdog } from '@roost/base'
    startWatchdog({ program: 'it', log: createLogger({ program: 'it' }), spinMsMax: 1000 })
    setTimeout(() => { for (;;); }, 500)
  `
  startProgram({ ...program('sleep', '1000'), name: 'other' })
  const argv = [process.execPath, '--input-type=module', '-e', watched] as const
  const inPackage = ['env', '-C', import.meta.dirname, ...argv] as const
  startProgram(program(...inPackage))
  await expect.poll(() => pidOf(folder, 'other'), { timeout: 5000 }).not.toBeNull()
  const other = pidOf(folder, 'other')
  const ended = () => programsIn(folder).find(({ name }) => name === 'it')?.ended?.code
  await expect.poll(ended, { timeout: 20_000 }).toBe(137)
  await running().not.toBeNull()
  expect(pidOf(folder, 'other')).toBe(other)
  expect(readFileSync(join(folder, 'it.out'), 'utf8')).toContain('does not turn any more')
}, 40_000)

async function removeGroups(): Promise<void> {
  const left = () => {
    removeCgroups(`/roost-${owner}`)
    return groupFolders('')
  }
  await expect.poll(left, { timeout: 5000 }).toEqual([])
}

/** In every hierarchy that has it. */
function groupFolders(path: string): string[] {
  const root = '/sys/fs/cgroup'
  return [root, ...readdirSync(root).map((name) => join(root, name))]
    .map((base) => join(base, path === '' ? `roost-${owner}` : path))
    .filter((folder) => existsSync(folder))
}

test('a program that is stopped stays stopped, and so does its keeper', async () => {
  startProgram(program('sleep', '1000'))
  await running().not.toBeNull()
  const pid = pidOf(folder, 'it') ?? 0
  await stopProgram(folder, 'it')
  expect(isAlive(pid)).toBe(false)
  expect(processesOf(marks())).toEqual([])
  expect(programsIn(folder)).toEqual([])
})

test('a program inherits nothing private of the terminal that it was started from', async () => {
  process.env['ROOST_API_TOKEN'] = 'secret'
  startProgram(program('sleep', '1000'))
  await running().not.toBeNull()
  // Until it is exec'ed it is still the keeper.
  await expect
    .poll(() => processesOf(marks()).some(({ command }) => command === 'sleep 1000'))
    .toBe(true)
  const environment = environmentOf(pidOf(folder, 'it') ?? 0)
  expect(environment['ROOST_OWNER']).toBe(`${owner}/host`)
  expect(environment['ROOST_API_TOKEN']).toBeUndefined()
  delete process.env['ROOST_API_TOKEN']
})

test('processes that detached themselves are found by what they inherited', async () => {
  startProgram(program('sh', '-c', 'setsid sleep 1001 & sleep 1000'))
  await expect
    .poll(() => processesOf(marks()).filter(({ command }) => command === 'sleep 1001').length)
    .toBe(1)
  await killProcesses(marks())
  expect(processesOf(marks())).toEqual([])
  expect(processesOf({ ...marks(), owner: `${owner}/ho` })).toEqual([])
})

test('a process of a machine that says it is ours is not believed', async () => {
  const machine = spawn('unshare', ['--pid', '--fork', '--kill-child', 'sh', '-c', SAYS_SO], {
    env: { ...process.env, OWNER: `${owner}/host` },
  })
  try {
    await once(machine.stdout, 'data')
    expect(processesOf(marks())).toEqual([])
    await killProcesses(marks())
    expect([machine.exitCode, machine.signalCode]).toEqual([null, null])
  } finally {
    const ended = once(machine, 'exit')
    if (machine.kill('SIGKILL')) await ended
  }
})
