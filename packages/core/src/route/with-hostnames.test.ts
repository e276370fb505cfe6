import { expect, test } from 'vitest'
import type { AppName } from '../id.ts'
import type { Route } from './route.ts'
import { routeOfHost, routesByHost, withHostnames } from './with-hostnames.ts'

const route = (app: string, hostnames: readonly string[] = [`${app}.roost.test`]): Route => ({
  key: `${app}/http`,
  app: app as AppName,
  hostnames,
  forceHttps: false,
  concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
  targets: [],
  coming: [],
})
const name = (text: string, app: string) => ({ name: text, app: app as AppName })

test('names of people’s own lead where the name of their app does', () => {
  const names = [name('www.b.example', 'shop'), name('*.a.example', 'shop'), name('x.y', 'gone')]
  expect(withHostnames([route('blog'), route('shop')], names).map((r) => r.hostnames)).toEqual([
    ['blog.roost.test'],
    ['shop.roost.test', '*.a.example', 'www.b.example'],
  ])
})

test('what has no name at all gets none', () => {
  expect(withHostnames([route('shop', [])], [name('x.y', 'shop')])[0]?.hostnames).toEqual([])
})

test('a host is found by its own name, else by the wildcard that stands for it', () => {
  const routes = [route('all', ['*.example.com']), route('one', ['www.example.com'])]
  const found = (host: string) => routeOfHost(routesByHost(routes), host)?.app
  expect(['www.example.com', 'a.example.com', 'a.b.example.com', 'example.com'].map(found)).toEqual(
    ['one', 'all', undefined, undefined],
  )
})
