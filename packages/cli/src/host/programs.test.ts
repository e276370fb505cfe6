import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { environmentOf, isAlive, killProcesses, processesOf } from './processes.ts'
import { killProgram, pidOf, programsIn, startProgram, stopProgram } from './programs.ts'

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
const running = () => expect.poll(() => pidOf(folder, 'it'), { timeout: 5000 })

test('a program is started again after kill -9, and only once at a time', async () => {
  startProgram(program('sleep', '1000'))
  await running().not.toBeNull()
  const first = pidOf(folder, 'it')
  startProgram(program('sleep', '1000'))
  killProgram(folder, 'it')
  await running().toSatisfy((pid) => pid !== null && pid !== first)
  const sleeping = processesOf(marks()).filter(({ command }) => command === 'sleep 1000')
  expect(sleeping).toHaveLength(1)
  expect(programsIn(folder)).toEqual([
    { name: 'it', pid: pidOf(folder, 'it'), since: expect.stringMatching(/^20\d\d-/) },
  ])
})

test('a program that ends by itself is started again ever more slowly, and its last words are kept', async () => {
  startProgram(program('sh', '-c', 'echo gone; exit 3'))
  const lives = () =>
    existsSync(join(folder, 'it.out')) ? readFileSync(join(folder, 'it.out'), 'utf8').length / 5 : 0
  await expect.poll(lives, { timeout: 5000 }).toBeGreaterThanOrEqual(3)
  expect(lives()).toBeLessThan(6)
})

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
