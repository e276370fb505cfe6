import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '@roost/base'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createReplayingApps } from './replaying-apps.ts'

const at = { dir: '' }
beforeEach(() => {
  at.dir = mkdtempSync(join(tmpdir(), 'roost-replaying-'))
})
afterEach(() => rmSync(at.dir, { recursive: true }))

function create(exists: readonly string[] = ['shop', 'blog']) {
  const changes = { count: 0 }
  const apps = createReplayingApps({
    file: join(at.dir, 'replaying.json'),
    exists: (app) => exists.includes(app),
    onChange: () => {
      changes.count += 1
    },
    log: silentLogger,
  })
  return { apps, changes }
}
const written = () => readFileSync(join(at.dir, 'replaying.json'), 'utf8')

test('what was found out is known once, and after a restart; what is no app is not', async () => {
  const { apps, changes } = create()
  apps.add(['shop', 'gone'])
  apps.add(['shop'])
  expect([...apps.all()]).toEqual(['shop'])
  expect(changes.count).toBe(1)
  await vi.waitFor(() => expect(written()).toBe('["shop"]'))
  expect([...create().apps.all()]).toEqual(['shop'])
  expect([...create(['blog']).apps.all()]).toEqual([])
})

test('a file that is none is as good as empty', () => {
  for (const text of ['{', '{}', '[1]']) {
    writeFileSync(join(at.dir, 'replaying.json'), text)
    expect([...create().apps.all()]).toEqual([])
  }
})
