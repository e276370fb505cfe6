import { RELEASE_STEPS } from '@roost/core'
import { describe, expect, test } from 'vitest'
import { type Moment, rehearse, STORIES, VICTIMS, type Victim } from './kill-at-each-step.ts'

/**
 * Everybody who takes part in a deploy of three machines, killed at each moment of it. Whoever follows is told how it ended, the
 * next deploy proceeds within 15 s, and nothing is left over. Each story is killed where the ones before it never came;
 * `KILL_EVERYWHERE=1` kills at every moment of every story, which takes minutes.
 */
const EVERYWHERE = process.env['KILL_EVERYWHERE'] === '1'

describe('killed at each step of the plan', () => {
  const reached = new Set<string>()

  for (const [n, story] of STORIES.entries())
    test(story.name, { timeout: 600_000 }, async () => {
      const rehearsal = await rehearse(story)
      const wrong: string[] = []
      let kills = 0
      try {
        for (const moment of await rehearsal.moments()) {
          const known = reached.has(moment)
          reached.add(moment)
          if (known && !EVERYWHERE) continue
          for (const victim of victimsAt(moment, n === 0)) {
            const result = await rehearsal.kill(victim, moment)
            kills++
            const what = result.reached ? result.wrong : ['it did not come again', ...result.wrong]
            wrong.push(...what.map((text) => `${victim} killed at "${moment}": ${text}`))
          }
        }
        wrong.push(...(await rehearsal.deployWell()))
      } finally {
        await rehearsal.close()
      }
      console.log(`${story.name}: ${kills} kills`)
      expect(wrong).toEqual([])
    })

  test('every step that core enumerates was among them, before and after', () => {
    const missed = RELEASE_STEPS.flatMap(({ status, step }) =>
      ['before', 'after'].map((when) => `${when} ${status} ${step}`),
    ).filter((moment) => !reached.has(moment))
    expect(missed).toEqual([])
  })
})

/** Who is at work at that moment. Building and following are the same in all stories. */
function victimsAt(moment: Moment, first: boolean): readonly Victim[] {
  if (moment.includes('build')) return first ? ['builder', 'cli', 'server'] : []
  if (moment.includes('command line')) return first ? ['cli', 'server'] : []
  return VICTIMS.filter((victim) => victim !== 'builder')
}
