import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { traces } from '../../cluster/cluster.ts'
import { SECTIONS } from './page.ts'
import { NAME, raiseWorld, type World } from './world.ts'

/** The edge on hosts whose machines are real, row by row, by clients near each region. `docs/reference/edge.md` is made of the same table. */
let world: World
beforeAll(async () => {
  world = await raiseWorld()
})
afterAll(() => world?.close())

describe.each(SECTIONS)('$title', ({ rows }) => {
  for (const { id, says, check, alone = false } of rows) {
    if (check === undefined) continue
    test(`${id}: ${says}`, { concurrent: !alone }, () => check(world))
  }
})

test('when all is taken down nothing is left', async () => {
  await world.close()
  expect(await traces(NAME)).toEqual([])
})
