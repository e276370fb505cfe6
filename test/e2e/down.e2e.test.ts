import { readdirSync } from 'node:fs'
import { expect, inject, test } from 'vitest'
import { traces } from '../cluster/cluster.ts'
import { footprint } from './footprint.ts'
import { NAME, PLAYGROUND } from './playground.ts'
import { terminal } from './terminal.ts'

test('down leaves processes, mounts, namespaces, cgroups and files as before', async () => {
  await terminal(inject('home')).json(['playground', 'down', ...PLAYGROUND])
  expect(await footprint()).toEqual(inject('before'))
  expect(readdirSync('/run/netns').filter((name) => name.startsWith(`${NAME}-`))).toEqual([])
  expect(await traces(NAME)).toEqual([])
})
