"""Common English words that are not said as they are spelt: American English in ARPAbet with stress."""

import functools

_WORDS = """
a AH0; i AY1; an AE0 N; the DH AH0; of AH0 V; to T UW0; into IH1 N T UW0; onto AA1 N T UW0; from F R AH0 M
for F AO0 R; and AE0 N D; or AO0 R; in IH0 N; on AA0 N; at AE0 T; as AE0 Z; is IH0 Z; was W AH0 Z; are AA0 R
were W ER0; be B IY0; been B IH1 N; being B IY1 IH0 NG; has HH AE0 Z; have HH AE0 V; having HH AE1 V IH0 NG
had HH AE0 D; do D UW1; does D AH1 Z; doing D UW1 IH0 NG; done D AH1 N; doth D AH1 TH; go G OW1; goes G OW1 Z
going G OW1 IH0 NG; gone G AO1 N; this DH IH1 S; its IH0 T S; it IH0 T; that DH AE0 T; not N AA1 T; no N OW1; so S OW1
us AH1 S; yes Y EH1 S; bus B AH1 S; you Y UW1; your Y AO0 R; yours Y AO1 R Z; youth Y UW1 TH; young Y AH1 NG
younger Y AH1 NG G ER0; he HH IY0; she SH IY0; we W IY0; me M IY0; they DH EY1; their DH EH0 R; theirs DH EH1 R Z
there DH EH1 R; where W EH1 R; here HH IH1 R; who HH UW1; whom HH UW1 M; whose HH UW1 Z; whole HH OW1 L; what W AH1 T
why W AY1; how HH AW1; one W AH1 N; once W AH1 N S; two T UW1; four F AO1 R; eight EY1 T; eighth EY1 T TH
twelfth T W EH1 L F TH; seven S EH1 V AH0 N; eleven IH0 L EH1 V AH0 N; fifth F IH1 F TH; ninth N AY1 N TH
second S EH1 K AH0 N D; some S AH1 M; come K AH1 M; become B IH0 K AH1 M; welcome W EH1 L K AH0 M
coming K AH1 M IH0 NG; comes K AH1 M Z; something S AH1 M TH IH0 NG; anything EH1 N IY0 TH IH0 NG
everything EH1 V R IY0 TH IH0 NG; nothing N AH1 TH IH0 NG; someone S AH1 M W AH0 N; anyone EH1 N IY0 W AH0 N
everyone EH1 V R IY0 W AH0 N; sometimes S AH1 M T AY0 M Z; somebody S AH1 M B AA0 D IY0; anybody EH1 N IY0 B AA0 D IY0
everybody EH1 V R IY0 B AA0 D IY0; nobody N OW1 B AA0 D IY0; somewhere S AH1 M W EH0 R; anywhere EH1 N IY0 W EH0 R
everywhere EH1 V R IY0 W EH0 R; nowhere N OW1 W EH0 R; any EH1 N IY0; many M EH1 N IY0; every EH1 V R IY0
ever EH1 V ER0; never N EH1 V ER0; even IY1 V AH0 N; very V EH1 R IY0; said S EH1 D; says S EH1 Z; again AH0 G EH1 N
against AH0 G EH1 N S T; give G IH1 V; given G IH1 V AH0 N; live L IH1 V; lived L IH1 V D; lives L IH1 V Z
living L IH1 V IH0 NG; love L AH1 V; loved L AH1 V D; lovely L AH1 V L IY0; lover L AH1 V ER0; above AH0 B AH1 V
dove D AH1 V; glove G L AH1 V; shove SH AH1 V; move M UW1 V; movie M UW1 V IY0; prove P R UW1 V
improve IH0 M P R UW1 V; approve AH0 P R UW1 V; remove R IY0 M UW1 V; lose L UW1 Z; loser L UW1 Z ER0; shoe SH UW1
canoe K AH0 N UW1; wolf W UH1 L F; woman W UH1 M AH0 N; women W IH1 M AH0 N; tomb T UW1 M; womb W UW1 M
through TH R UW1; though DH OW1; although AO0 L DH OW1; thought TH AO1 T; throughout TH R UW0 AW1 T
thorough TH ER1 OW0; enough IH0 N AH1 F; rough R AH1 F; tough T AH1 F; cough K AO1 F; laugh L AE1 F
laughter L AE1 F T ER0; dough D OW1; bough B AW1; drought D R AW1 T; plough P L AW1; fought F AO1 T
daughter D AO1 T ER0; height HH AY1 T; either IY1 DH ER0; neither N IY1 DH ER0; weird W IH1 R D; seize S IY1 Z
caffeine K AE0 F IY1 N; protein P R OW1 T IY0 N; our AW1 ER0; ours AW1 ER0 Z; hour AW1 ER0; flour F L AW1 ER0
sour S AW1 ER0; tour T UH1 R; court K AO1 R T; journey JH ER1 N IY0; could K UH1 D; would W UH1 D; should SH UH1 D
put P UH1 T; push P UH1 SH; pull P UH1 L; full F UH1 L; bull B UH1 L; bullet B UH1 L AH0 T; bush B UH1 SH
butcher B UH1 CH ER0; sugar SH UH1 G ER0; sure SH UH1 R; pudding P UH1 D IH0 NG; good G UH1 D; foot F UH1 T
stood S T UH1 D; wood W UH1 D; wool W UH1 L; hood HH UH1 D; blood B L AH1 D; flood F L AH1 D; door D AO1 R
floor F L AO1 R; poor P UH1 R; soup S UW1 P; group G R UW1 P; wound W UW1 N D; route R UW1 T; touch T AH1 CH
country K AH1 N T R IY0; couple K AH1 P AH0 L; double D AH1 B AH0 L; trouble T R AH1 B AH0 L; cousin K AH1 Z AH0 N
south S AW1 TH; southern S AH1 DH ER0 N; soul S OW1 L; shoulder SH OW1 L D ER0; mouth M AW1 TH; great G R EY1 T
break B R EY1 K; steak S T EY1 K; bear B EH1 R; wear W EH1 R; tear T EH1 R; pear P EH1 R; swear S W EH1 R
heart HH AA1 R T; hearth HH AA1 R TH; heard HH ER1 D; beard B IH1 R D; early ER1 L IY0; earth ER1 TH; earn ER1 N
head HH EH1 D; dead D EH1 D; bread B R EH1 D; read R IY1 D; lead L IY1 D; bead B IY1 D; mean M IY1 N; meant M EH1 N T
dream D R IY1 M; dreamt D R EH1 M T; health HH EH1 L TH; wealth W EH1 L TH; breath B R EH1 TH; breathe B R IY1 DH
death D EH1 TH; leather L EH1 DH ER0; weather W EH1 DH ER0; heavy HH EH1 V IY0; heaven HH EH1 V AH0 N; sweat S W EH1 T
threat TH R EH1 T; area EH1 R IY0 AH0; idea AY0 D IY1 AH0; real R IY1 L; really R IH1 L IY0
reality R IY0 AE1 L AH0 T IY0; theatre TH IY1 AH0 T ER0; theater TH IY1 AH0 T ER0; create K R IY0 EY1 T
ocean OW1 SH AH0 N; beauty B Y UW1 T IY0; beautiful B Y UW1 T AH0 F AH0 L; people P IY1 P AH0 L; leopard L EH1 P ER0 D
friend F R EH1 N D; view V Y UW1; eye AY1; eyes AY1 Z; buy B AY1; guy G AY1; bye B AY1; guys G AY1 Z; build B IH1 L D
built B IH1 L T; business B IH1 Z N AH0 S; busy B IH1 Z IY0; bury B EH1 R IY0; guess G EH1 S; guest G EH1 S T
guide G AY1 D; guilty G IH1 L T IY0; guard G AA1 R D; guitar G AH0 T AA1 R; language L AE1 NG G W AH0 JH
minute M IH1 N AH0 T; lettuce L EH1 T AH0 S; fruit F R UW1 T; suit S UW1 T; only OW1 N L IY0; both B OW1 TH
most M OW1 S T; almost AO1 L M OW2 S T; post P OW1 S T; host HH OW1 S T; ghost G OW1 S T; gross G R OW1 S
lost L AO1 S T; cost K AO1 S T; don't D OW1 N T; won't W OW1 N T; won W AH1 N; son S AH1 N; ton T AH1 N
front F R AH1 N T; month M AH1 N TH; money M AH1 N IY0; monkey M AH1 NG K IY0; honey HH AH1 N IY0
monday M AH1 N D EY0; wonder W AH1 N D ER0; wonderful W AH1 N D ER0 F AH0 L; tongue T AH1 NG; among AH0 M AH1 NG
mother M AH1 DH ER0; other AH1 DH ER0; another AH0 N AH1 DH ER0; brother B R AH1 DH ER0; cover K AH1 V ER0
oven AH1 V AH0 N; discover D IH0 S K AH1 V ER0; color K AH1 L ER0; colour K AH1 L ER0; company K AH1 M P AH0 N IY0
comfort K AH1 M F ER0 T; government G AH1 V ER0 M AH0 N T; govern G AH1 V ER0 N; stomach S T AH1 M AH0 K
sponge S P AH1 N JH; own OW1 N; low L OW1; now N AW1; know N OW1; known N OW1 N; knowledge N AA1 L AH0 JH
town T AW1 N; down D AW1 N; bowl B OW1 L; allow AH0 L AW1; tomorrow T AH0 M AA1 R OW0; today T AH0 D EY1
tonight T AH0 N AY1 T; together T AH0 G EH1 DH ER0; old OW1 L D; over OW1 V ER0; under AH1 N D ER0; open OW1 P AH0 N
hotel HH OW0 T EH1 L; hello HH AH0 L OW1; oh OW1; okay OW2 K EY1; ok OW2 K EY1; yeah Y AE1; ah AA1; ha HH AA1
haha HH AA1 HH AA1; uh AH1; um AH1 M; hmm HH AH1 M; mm M M; huh HH AH1; wow W AW1; because B IH0 K AH1 Z
before B IH0 F AO1 R; began B IH0 G AE1 N; begin B IH0 G IH1 N; believe B IH0 L IY1 V; after AE1 F T ER0
always AO1 L W EY0 Z; also AO1 L S OW0; already AO0 L R EH1 D IY0; all AO1 L; call K AO1 L; small S M AO1 L
talk T AO1 K; walk W AO1 K; chalk CH AO1 K; half HH AE1 F; calm K AA1 M; palm P AA1 M; salt S AO1 L T; false F AO1 L S
father F AA1 DH ER0; rather R AE1 DH ER0; water W AO1 T ER0; wash W AA1 SH; want W AA1 N T; watch W AA1 CH
swan S W AA1 N; war W AO1 R; warm W AO1 R M; toward T AH0 W AO1 R D; towards T AH0 W AO1 R D Z; word W ER1 D
work W ER1 K; world W ER1 L D; worse W ER1 S; worst W ER1 S T; worth W ER1 TH; worry W ER1 IY0
forward F AO1 R W ER0 D; quarter K W AO1 R T ER0; aunt AE1 N T; draught D R AE1 F T; plaid P L AE1 D; quay K IY1
key K IY1; obey OW0 B EY1; survey S ER1 V EY0; use Y UW1 Z; used Y UW1 Z D; user Y UW1 Z ER0; useful Y UW1 S F AH0 L
house HH AW1 S; houses HH AW1 Z IH0 Z; close K L OW1 Z; these DH IY1 Z; those DH OW1 Z; thus DH AH1 S; then DH EH1 N
than DH AE0 N; them DH EH0 M; with W IH0 DH; within W IH0 DH IH1 N; without W IH0 DH AW1 T; clothes K L OW1 Z
clothing K L OW1 DH IH0 NG; smooth S M UW1 DH; bathe B EY1 DH; family F AE1 M AH0 L IY0; image IH1 M AH0 JH
animal AE1 N AH0 M AH0 L; camera K AE1 M R AH0; travel T R AE1 V AH0 L; planet P L AE1 N AH0 T; magic M AE1 JH IH0 K
value V AE1 L Y UW0; habit HH AE1 B AH0 T; radio R EY1 D IY0 OW0; natural N AE1 CH ER0 AH0 L
national N AE1 SH AH0 N AH0 L; rapid R AE1 P AH0 D; average AE1 V ER0 IH0 JH; salad S AE1 L AH0 D; cabin K AE1 B AH0 N
garage G ER0 AA1 ZH; massage M AH0 S AA1 ZH; mirage M ER0 AA1 ZH; village V IH1 L AH0 JH; private P R AY1 V AH0 T
climate K L AY1 M AH0 T; chocolate CH AO1 K L AH0 T; climb K L AY1 M; sign S AY1 N; island AY1 L AH0 N D
city S IH1 T IY0; pretty P R IH1 T IY0; english IH1 NG G L IH0 SH; england IH1 NG G L AH0 N D; office AO1 F AH0 S
police P AH0 L IY1 S; machine M AH0 SH IY1 N; magazine M AE1 G AH0 Z IY2 N; engine EH1 N JH AH0 N
determine D IH0 T ER1 M AH0 N; examine IH0 G Z AE1 M AH0 N; promise P R AA1 M AH0 S; practice P R AE1 K T AH0 S
notice N OW1 T AH0 S; justice JH AH1 S T AH0 S; favorite F EY1 V R AH0 T; river R IH1 V ER0
consider K AH0 N S IH1 D ER0; finish F IH1 N IH0 SH; figure F IH1 G Y ER0; liver L IH1 V ER0; visit V IH1 Z AH0 T
limit L IH1 M AH0 T; spirit S P IH1 R AH0 T; window W IH1 N D OW0; wind W IH1 N D; children CH IH1 L D R AH0 N
child CH AY1 L D; pint P AY1 N T; mild M AY1 L D; wild W AY1 L D; kind K AY1 N D; mind M AY1 N D; find F AY1 N D
behind B IH0 HH AY1 N D; science S AY1 AH0 N S; quiet K W AY1 AH0 T; diet D AY1 AH0 T; society S AH0 S AY1 AH0 T IY0
lion L AY1 AH0 N; giant JH AY1 AH0 N T; iron AY1 ER0 N; fire F AY1 ER0; tired T AY1 ER0 D; choir K W AY1 ER0
piano P IY0 AE1 N OW0; video V IH1 D IY0 OW0; studio S T UW1 D IY0 OW0; ski S K IY1; taxi T AE1 K S IY0
pizza P IY1 T S AH0; sushi S UW1 SH IY0; hi HH AY1; wifi W AY1 F AY0; wi-fi W AY1 F AY0; app AE1 P; body B AA1 D IY0
copy K AA1 P IY0; study S T AH1 D IY0; model M AA1 D AH0 L; product P R AA1 D AH0 K T; project P R AA1 JH EH0 K T
problem P R AA1 B L AH0 M; probably P R AA1 B AH0 B L IY0; process P R AA1 S EH0 S; proper P R AA1 P ER0
honest AA1 N AH0 S T; honor AA1 N ER0; forest F AO1 R AH0 S T; modern M AA1 D ER0 N; possible P AA1 S AH0 B AH0 L
sorry S AA1 R IY0; follow F AA1 L OW0; holiday HH AA1 L AH0 D EY0; doctor D AA1 K T ER0; dollar D AA1 L ER0
college K AA1 L IH0 JH; collar K AA1 L ER0; event IH0 V EH1 N T; evil IY1 V AH0 L; secret S IY1 K R AH0 T
legal L IY1 G AH0 L; media M IY1 D IY0 AH0; maybe M EY1 B IY0; evening IY1 V N IH0 NG; season S IY1 Z AH0 N
reason R IY1 Z AH0 N; please P L IY1 Z; pleasure P L EH1 ZH ER0; measure M EH1 ZH ER0; treasure T R EH1 ZH ER0
decision D IH0 S IH1 ZH AH0 N; usual Y UW1 ZH AH0 W AH0 L; usually Y UW1 ZH AH0 W AH0 L IY0; issue IH1 SH UW0
tissue T IH1 SH UW0; actual AE1 K CH AH0 W AH0 L; actually AE1 K CH AH0 W AH0 L IY0; picture P IH1 K CH ER0
nature N EY1 CH ER0; question K W EH1 S CH AH0 N; special S P EH1 SH AH0 L; ancient EY1 N SH AH0 N T
delicious D IH0 L IH1 SH AH0 S; anxious AE1 NG K SH AH0 S; ache EY1 K; echo EH1 K OW0; character K EH1 R IH0 K T ER0
school S K UW1 L; chef SH EH1 F; chaos K EY1 AA0 S; anchor AE1 NG K ER0; orchestra AO1 R K AH0 S T R AH0
technology T EH0 K N AA1 L AH0 JH IY0; parachute P EH1 R AH0 SH UW2 T; listen L IH1 S AH0 N; castle K AE1 S AH0 L
often AO1 F AH0 N; soften S AO1 F AH0 N; christmas K R IH1 S M AH0 S; answer AE1 N S ER0; sword S AO1 R D
muscle M AH1 S AH0 L; scissors S IH1 Z ER0 Z; debt D EH1 T; doubt D AW1 T; subtle S AH1 T AH0 L; receipt R IH0 S IY1 T
salmon S AE1 M AH0 N; wednesday W EH1 N Z D EY0; february F EH1 B Y AH0 W EH0 R IY0; sunday S AH1 N D EY0
tuesday T UW1 Z D EY0; friday F R AY1 D EY0; saturday S AE1 T ER0 D EY0; january JH AE1 N Y UW0 EH0 R IY0
july JH UH0 L AY1; august AO1 G AH0 S T; colonel K ER1 N AH0 L; recipe R EH1 S AH0 P IY0
catastrophe K AH0 T AE1 S T R AH0 F IY0; coffee K AO1 F IY0; cafe K AH0 F EY1; ballet B AE0 L EY1; bouquet B UW0 K EY1
genre ZH AA1 N R AH0; fiance F IY0 AA1 N S EY0; resume R IH0 Z UW1 M; vehicle V IY1 HH IH0 K AH0 L
vegetable V EH1 JH T AH0 B AH0 L; interest IH1 N T R AH0 S T; interesting IH1 N T R AH0 S T IH0 NG
different D IH1 F R AH0 N T; several S EH1 V R AH0 L; general JH EH1 N ER0 AH0 L; get G EH1 T; girl G ER1 L
gift G IH1 F T; tiger T AY1 G ER0; anger AE1 NG G ER0; finger F IH1 NG G ER0; hunger HH AH1 NG G ER0
danger D EY1 N JH ER0; stranger S T R EY1 N JH ER0; longer L AO1 NG G ER0; stronger S T R AO1 NG G ER0
singer S IH1 NG ER0; exact IH0 G Z AE1 K T; example IH0 G Z AE1 M P AH0 L; exist IH0 G Z IH1 S T
anxiety AE0 NG Z AY1 AH0 T IY0; luxury L AH1 G ZH ER0 IY0; heir EH1 R; rhythm R IH1 DH AH0 M; prism P R IH1 Z AH0 M
laughed L AE1 F T; mr M IH1 S T ER0; hundred HH AH1 N D R AH0 D; thousand TH AW1 Z AH0 N D; million M IH1 L Y AH0 N
billion B IH1 L Y AH0 N; trillion T R IH1 L Y AH0 N; percent P ER0 S EH1 N T; zero Z IH1 R OW0; twenty T W EH1 N T IY0
thirteen TH ER1 T IY1 N; euro Y UH1 R OW0; degree D IH0 G R IY1; woah W OW1; whoa W OW1; lol L AO1 L; bro B R OW1
tho DH OW1; thru TH R UW1; gonna G AA1 N AH0; wanna W AA1 N AH0; gotta G AA1 T AH0; kinda K AY1 N D AH0; x EH1 K S
alive AH0 L AY1 V; arrive ER0 AY1 V; five F AY1 V; drive D R AY1 V; driven D R IH1 V AH0 N; survive S ER0 V AY1 V
person P ER1 S AH0 N; number N AH1 M B ER0; member M EH1 M B ER0; remember R IH0 M EH1 M B ER0
december D IH0 S EH1 M B ER0; november N OW0 V EH1 M B ER0; september S EH0 P T EH1 M B ER0; ladies L EY1 D IY0 Z
series S IH1 R IY0 Z; species S P IY1 SH IY0 Z; movies M UW1 V IY0 Z; cookie K UH1 K IY0; music M Y UW1 Z IH0 K
unit Y UW1 N AH0 T; united Y UW0 N AY1 T AH0 D; university Y UW2 N AH0 V ER1 S AH0 T IY0; universe Y UW1 N AH0 V ER2 S
unique Y UW0 N IY1 K; union Y UW1 N Y AH0 N; human HH Y UW1 M AH0 N; popular P AA1 P Y AH0 L ER0
particular P ER0 T IH1 K Y AH0 L ER0; opinion AH0 P IH1 N Y AH0 N; onion AH1 N Y AH0 N; familiar F AH0 M IH1 L Y ER0
control K AH0 N T R OW1 L; moment M OW1 M AH0 N T; story S T AO1 R IY0; history HH IH1 S T ER0 IY0
whatever W AH0 T EH1 V ER0; however HH AW0 EH1 V ER0; forever F ER0 EH1 V ER0; everyday EH1 V R IY0 D EY1
birthday B ER1 TH D EY2; goodbye G UH0 D B AY1; halo HH EY1 L OW0; dr D AA1 K T ER0; yo Y OW1; nah N AA1; ugh AH1 G
aww AO1; aw AO1; eh EH1; ooh UW1; shh SH; psst P S T; brr B ER1; tsk T IH1 S K; mmm M M; power P AW1 ER0
tower T AW1 ER0; flower F L AW1 ER0; shower SH AW1 ER0; coward K AW1 ER0 D; quite K W AY1 T; final F AY1 N AH0 L
mister M IH1 S T ER0; myself M AY0 S EH1 L F; yourself Y AO0 R S EH1 L F; outside AW1 T S AY1 D; inside IH0 N S AY1 D
online AO1 N L AY1 N; program P R OW1 G R AE0 M; president P R EH1 Z AH0 D AH0 N T; present P R EH1 Z AH0 N T
record R EH1 K ER0 D; recent R IY1 S AH0 N T; common K AA1 M AH0 N; film F IH1 L M; america AH0 M EH1 R AH0 K AH0
american AH0 M EH1 R AH0 K AH0 N; understand AH2 N D ER0 S T AE1 N D; else EH1 L S
education EH2 JH AH0 K EY1 SH AH0 N; london L AH1 N D AH0 N; april EY1 P R AH0 L; upon AH0 P AA1 N
cannot K AE1 N AA0 T; china CH AY1 N AH0; perhaps P ER0 HH AE1 P S; europe Y UH1 R AH0 P; foreign F AO1 R AH0 N
michael M AY1 K AH0 L; career K ER0 IH1 R; truth T R UW1 TH; etc EH1 T S EH1 T ER0 AH0; shall SH AE1 L
except IH0 K S EH1 P T; russian R AH1 SH AH0 N; ass AE1 S; female F IY1 M EY0 L; release R IY0 L IY1 S
increase IH0 N K R IY1 S; fully F UH1 L IY0; none N AH1 N; taken T EY1 K AH0 N; photo F OW1 T OW0
october AA0 K T OW1 B ER0; choice CH OY1 S; supposed S AH0 P OW1 Z D; facebook F EY1 S B UH0 K; peter P IY1 T ER0
advice AH0 D V AY1 S; basic B EY1 S IH0 K; texas T EH1 K S AH0 S; easily IY1 Z AH0 L IY0; annual AE1 N Y UW0 AH0 L
access AE1 K S EH0 S; imagine IH0 M AE1 JH AH0 N; russia R AH1 SH AH0; patient P EY1 SH AH0 N T
patients P EY1 SH AH0 N T S; pressure P R EH1 SH ER0; manager M AE1 N AH0 JH ER0; award AH0 W AO1 R D
theory TH IH1 R IY0; continue K AH0 N T IH1 N Y UW0; episode EH1 P AH0 S OW0 D; regular R EH1 G Y AH0 L ER0
doubleyou D AH1 B AH0 L Y UW0; o'clock AH0 K L AA1 K; y'all Y AO1 L; can't K AE1 N T; ain't EY1 N T; shan't SH AE1 N T
ma'am M AE1 M; they're DH EH1 R; we're W IH1 R; you're Y AO1 R; aren't AA1 R N T; weren't W ER1 N T
doesn't D AH1 Z AH0 N T; missus M IH1 S AH0 Z; miz M IH0 Z; region R IY1 JH AH0 N; jesus JH IY1 Z AH0 S
beyond B IH0 AA1 N D; forget F ER0 G EH1 T
"""


@functools.cache
def irregular_words() -> dict[str, tuple[str, ...]]:
    """Phonemes by word, in lower case."""
    entries = (entry.split() for line in _WORDS.splitlines() for entry in line.split(";"))
    return {entry[0]: tuple(entry[1:]) for entry in entries if entry}
