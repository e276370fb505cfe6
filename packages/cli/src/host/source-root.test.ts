import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isFresh } from './source-root.ts'

const space = { root: '' }
beforeEach(() => {
  space.root = mkdtempSync(join(tmpdir(), 'roost-fresh-'))
  for (const room of ['core', 'api', 'base', 'agent'])
    write(`packages/${room}/src/thing/thing.ts`, 100)
})
afterEach(() => rmSync(space.root, { recursive: true }))

function write(name: string, at: number): void {
  const file = join(space.root, name)
  mkdirSync(join(file, '..'), { recursive: true })
  writeFileSync(file, '')
  utimesSync(file, at, at)
  utimesSync(join(file, '..'), at, at)
  utimesSync(join(file, '../..'), at, at)
}
const fresh = () => isFresh(space.root, 'agent')

test('a bundle is used while nothing that is in it is newer', () => {
  expect(fresh()).toBe(false)
  write('packages/agent/dist/agent.mjs', 200)
  expect(fresh()).toBe(true)
  write('packages/base/src/thing/thing.ts', 300)
  expect(fresh()).toBe(false)
})

test('a file that was removed makes it old, a test does not', () => {
  write('packages/agent/dist/agent.mjs', 200)
  write('packages/core/src/thing/thing.test.ts', 300)
  utimesSync(join(space.root, 'packages/core/src/thing'), 100, 100)
  utimesSync(join(space.root, 'packages/core/src'), 100, 100)
  expect(fresh()).toBe(true)
  rmSync(join(space.root, 'packages/core/src/thing/thing.ts'))
  expect(fresh()).toBe(false)
})
