import { mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '@roost/base'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createReplayingApps } from './replaying-apps.ts'

const HOUR = 3_600_000
const at = { dir: '', now: 0 }
beforeEach(() => {
  at.dir = mkdtempSync(join(tmpdir(), 'roost-replaying-'))
  at.now = 1000 * HOUR
})
// What it writes down may still be on its way.
afterEach(() => rmSync(at.dir, { recursive: true, maxRetries: 5 }))

function create(names: readonly string[] = ['shop', 'blog'], file = 'replaying.json') {
  const changes = { count: 0 }
  const apps = createReplayingApps({
    file: join(at.dir, file),
    exists: (app) => names.includes(app),
    now: () => at.now,
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
  apps.saw('shop')
  apps.saw('gone')
  apps.saw('shop')
  expect([...apps.all()]).toEqual(['shop'])
  expect(changes.count).toBe(1)
  await vi.waitFor(() => expect(written()).toContain('"shop"'))
  expect([...create().apps.all()]).toEqual(['shop'])
  expect([...create(['blog']).apps.all()]).toEqual([])
})

test('many that are heard at once are written down together, the last of them as well', async () => {
  const names = Array.from({ length: 500 }, (_, n) => `app-${n}`)
  const { apps } = create(names)
  const seen: (string | null)[] = []
  const watcher = watch(at.dir, (event, name) => void (event === 'rename' && seen.push(name)))
  apps.heard(names.map((app) => ({ app, at: at.now })))
  await vi.waitFor(() => expect(JSON.parse(written())).toHaveLength(500))
  await vi.waitFor(() => expect(seen).toContain('replaying.json'))
  watcher.close()
  // Each write brings three: the part is made, and renamed from and to.
  expect(seen.length).toBeLessThanOrEqual(6)
})

test('it is forgotten after a day without a replay', () => {
  const { apps, changes } = create()
  apps.saw('shop')
  apps.saw('blog')
  at.now += 20 * HOUR
  apps.saw('blog')
  at.now += 5 * HOUR
  expect([...apps.all()]).toEqual(['blog'])
  apps.saw('shop')
  expect([...apps.all()].sort()).toEqual(['blog', 'shop'])
  expect(changes.count).toBe(3)
})

test('edges that tell each other keep nothing alive that none of them has seen', () => {
  const [one, two] = [create(), create(['shop'], 'other.json')]
  one.apps.saw('shop')
  const talk = () => {
    two.apps.heard(one.apps.told())
    one.apps.heard(two.apps.told())
  }
  talk()
  expect([...two.apps.all()]).toEqual(['shop'])
  for (let minutes = 0; minutes < 24 * 60; minutes += 5) {
    at.now += HOUR / 12
    talk()
  }
  expect([[...one.apps.all()], [...two.apps.all()]]).toEqual([[], []])
})

test('a clock that is ahead makes nothing last, and what is long over is not brought back', () => {
  const { apps } = create()
  apps.heard([{ app: 'shop', at: at.now - 25 * HOUR }])
  expect([...apps.all()]).toEqual([])
  apps.heard([{ app: 'shop', at: at.now + 1000 * HOUR }, 'shop' as never])
  expect([...apps.all()]).toEqual(['shop'])
  at.now += 24 * HOUR
  expect([...apps.all()]).toEqual([])
})

test('a file that is none is as good as empty', () => {
  for (const text of ['{', '{}', '[1]', '["shop"]']) {
    writeFileSync(join(at.dir, 'replaying.json'), text)
    expect([...create().apps.all()]).toEqual([])
  }
})
