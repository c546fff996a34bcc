function e(e,t){return e.split(`
`).flatMap((e,n)=>{if(!e.trim())return[];try{return[JSON.parse(e)]}catch{throw Error(t(n+1))}})}export{e as t};